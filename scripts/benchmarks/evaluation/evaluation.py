"""Accuracy through FastServe against the same engine asked directly: the same items, client and graders."""

import argparse
import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from deployments.evaluation.client import Answer, EvaluationClient, TransientError
from deployments.suites import graders
from deployments.suites.item import Item
from deployments.suites.suite import Suite, load_suite
from deployments.table.api import TableApi
from policies.promotion.confidence import wilson
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving import served_pool
from serve_app.console.text_table import print_table

RETRIES = 20
WARM_S = 120.0


@dataclass(frozen=True, slots=True)
class Pair:
    """One item's two answers and their scores."""

    item: Item
    direct: Answer
    through: Answer
    direct_score: float
    through_score: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    served_pool.add_arguments(parser)
    parser.add_argument("--suite", type=Path, required=True, help="a suite, .jsonl or .jsonl.gz")
    parser.add_argument("--model", default="smollm2-135m", help="the model to ask")
    parser.add_argument("--items-per-task", type=int, help="only so many items of each task")


def run(args: argparse.Namespace) -> Report:
    """Ask each item twice in turn, one request at a time, so that both meet the same engine state."""
    suite = load_suite(args.suite)
    items = sample(suite, args.items_per_task)
    if args.only is None and args.url is None:
        args.only = args.model
    with served_pool.serving(args) as pool:
        pairs = asyncio.run(_ask_all(pool, args.model, items))
    return _report(args.model, suite, pairs)


def sample(suite: Suite, per_task: int | None) -> list[Item]:
    """The first `per_task` items of each task; all without a number."""
    taken: dict[str, list[Item]] = defaultdict(list)
    for item in suite.items:
        if per_task is None or len(taken[item.task]) < per_task:
            taken[item.task].append(item)
    return [item for items in taken.values() for item in items]


async def _ask_all(pool: served_pool.Serving, model: str, items: list[Item]) -> list[Pair]:
    url = await _replica_url(pool.table, model)
    direct = EvaluationClient(lambda: url, await pool.table.secret())
    through = EvaluationClient(lambda: pool.url, pool.key)
    pairs = []
    try:
        for place, item in enumerate(tqdm(items, desc="items")):
            order = (direct, through) if place % 2 else (through, direct)
            answers = {client: await _ask(client, model, item) for client in order}
            texts = (answers[direct].text, answers[through].text)
            scores = [(await asyncio.to_thread(graders.grade, item, text)).score for text in texts]
            pairs.append(Pair(item, answers[direct], answers[through], *scores))
    finally:
        await direct.close()
        await through.close()
    return pairs


async def _ask(client: EvaluationClient, model: str, item: Item) -> Answer:
    for attempt in range(RETRIES):
        try:
            return await client.ask(model, item)
        except TransientError as error:
            if attempt == RETRIES - 1:
                raise
            await asyncio.sleep(max(1.0, error.retry_after_s))
    raise AssertionError("the last attempt raises")


async def _replica_url(table: TableApi, model: str) -> str:
    """Where the model's own server listens. Raises TimeoutError if it does not come up."""
    deadline_s = time.monotonic() + WARM_S
    while time.monotonic() < deadline_s:
        snapshot = await table.snapshot("", 0, 0.0)
        if model in snapshot.models and snapshot.models[model].replicas:
            return snapshot.models[model].replicas[0].url
        await asyncio.sleep(0.5)
    raise TimeoutError(f"Model '{model}' has no replica after {WARM_S:.0f} s.")


def _report(model: str, suite: Suite, pairs: list[Pair]) -> Report:
    by_task: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_task[pair.item.task].append(pair)
    rows = [_row(task, some) for task, some in by_task.items()]
    rows.append(_row("all", pairs))
    heads = ("task", "items", "direct", "through", "low", "high", "same score", "same text")
    print_table(heads, rows, title=f"{model} on {suite.name}")
    same = sum(pair.direct_score == pair.through_score for pair in pairs) / len(pairs)
    results: dict[str, object] = {
        "model": model,
        "suite": {"name": suite.name, "revision": suite.revision, "items": len(pairs)},
        "tasks": [dict(zip(heads, row, strict=True)) for row in rows],
        "differ": [p.item.id for p in pairs if p.direct_score != p.through_score],
    }
    return Report("evaluation", (bar("share of items with the same score", same, ">=", 1.0),), results)


def _row(task: str, pairs: list[Pair]) -> tuple[str, int, float, float, float, float, float, float]:
    count = len(pairs)
    direct, through = (
        sum(getattr(p, name) for p in pairs) / count for name in ("direct_score", "through_score")
    )
    low, high = wilson(through, count)
    same_score = sum(p.direct_score == p.through_score for p in pairs) / count
    same_text = sum(p.direct.text == p.through.text for p in pairs) / count
    return task, count, direct, through, low, high, same_score, same_text
