"""What `auto` is worth on the real pool, on items that the evaluation never saw.

The pool evaluates itself on the suites first. Then every held-out item is asked by `auto` and of each model
by name, in random order, and the ways are compared item by item: the best single model and the best model
of each task by the evaluation (the task label is told to it alone), and the plain formula, which knows one
accuracy a model, on the observations that `auto` logged.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from deployments.live_evidence import utility
from deployments.records import DecisionRecord, EvaluationRecord
from policies.formula import FormulaPolicy
from policies.observation import MODEL_COLUMN, FloatArray, Observation
from scripts.benchmarks import _serving
from scripts.benchmarks._frame import Report, bar, interval, print_table
from scripts.benchmarks._traffic import Asked, User, callers, compared
from scripts.benchmarks.learn_demo import EVALUATOR
from scripts.models.data import traffic_items

EVALUATION_S = 900.0
PAGE = 2_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _serving.add_arguments(parser)
    parser.add_argument("--items", type=int, default=180, help="held-out items")
    parser.add_argument("--seed", type=int, default=7)


async def _evaluated(pool: _serving.Serving) -> list[EvaluationRecord]:
    """The evaluation's records, once it is over and the quality model fitted on it serves."""
    until_s = time.monotonic() + EVALUATION_S
    with tqdm(desc="evaluation", unit="answer") as progress:
        while time.monotonic() < until_s:
            records = await pool.table.evaluations(None, None)
            progress.update(len(records) - progress.n)
            snapshot = await pool.table.snapshot("", 0, 5.0)
            rests = records and time.time() - max(r.finished_s for r in records) > 20.0
            if rests and "quality" in snapshot.artifacts:
                await asyncio.sleep(10.0)  # the last fit, and the ingress that takes it
                return records
            await asyncio.sleep(2.0)
    raise TimeoutError(f"The evaluation did not end within {EVALUATION_S:.0f} s.")


def best_models(
    records: Sequence[EvaluationRecord], by_profile: Mapping[str, Sequence[float]]
) -> tuple[str, dict[str, str]]:
    """The best single model and the best one of each task, by mean utility in the evaluation."""
    overall: dict[str, list[float]] = defaultdict(list)
    by_task: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        caller = by_profile[record.profile]
        earned = utility(record.score, record.e2e_s or 0.0, 0.0, caller, 0.0, caller[3])
        overall[record.model].append(earned)
        by_task[record.task][record.model].append(earned)
    return _best(overall), {task: _best(models) for task, models in by_task.items()}


def _best(earned: Mapping[str, Sequence[float]]) -> str:
    return max(sorted(earned), key=lambda model: float(np.mean(earned[model])))


async def _decisions(pool: _serving.Serving, after_s: float) -> dict[str, DecisionRecord]:
    found: dict[str, DecisionRecord] = {}
    while True:
        page = await pool.table.transitions(after_s, PAGE)
        found |= {record.decision_id: record for record, _ in page}
        if len(page) < PAGE:
            return found
        after_s = page[-1][0].created_s


def plain(record: DecisionRecord, accuracy: Mapping[str, float]) -> FloatArray:
    """[M] what the formula would choose with one `accuracy` a model in place of the predicted ones."""
    rows = np.array(record.rows)
    rows[:, MODEL_COLUMN["accuracy"]] = [accuracy[model] for model in record.models]
    observation = Observation(
        record.models, rows, np.array(record.prompt), np.array(record.caller), np.array(record.mask)
    )
    return FormulaPolicy().probabilities(observation)


async def _play(pool: _serving.Serving, args: argparse.Namespace) -> dict[str, Any]:
    records = await _evaluated(pool)
    by_profile = callers(args.config)
    began_s = time.time()
    models = sorted((await pool.table.snapshot("", 0, 5.0)).models)
    user = User(pool.url, pool.key, by_profile, began_s)
    try:
        items = list(islice(traffic_items(args.seed), args.items))
        table = await compared(user, items, models, args.seed, float("inf"))
    finally:
        await user.close()
    await asyncio.sleep(2.0)  # the last records reach the table
    decisions = await _decisions(pool, began_s - 1.0)
    return {"records": records, "callers": by_profile, "models": models, "table": table, "log": decisions}


def judged(story: Mapping[str, Any]) -> dict[str, FloatArray]:
    """[N, 3] by way: utility, score and end-to-end seconds of each item."""
    models: list[str] = story["models"]
    table: list[list[Asked]] = story["table"]
    values = np.array([[(a.utility, a.score, a.e2e_s) for a in row] for row in table])  # [N, 1 + M, 3]
    best, by_task = best_models(story["records"], story["callers"])
    accuracy = {
        model: float(np.mean([r.score for r in story["records"] if r.model == model])) for model in models
    }
    labelled = [1 + models.index(by_task[row[0].task]) for row in table]
    choice = np.array([plain(story["log"][row[0].decision_id], accuracy) for row in table])  # [N, M]
    return {
        "auto": values[:, 0],
        f"best single, {best}": values[:, 1 + models.index(best)],
        "task label": values[np.arange(len(table)), labelled],
        "plain formula": np.einsum("nm,nmk->nk", choice, values[:, 1:]),
        "oracle": values[np.arange(len(table)), 1 + values[:, 1:, 0].argmax(axis=1)],
        **{f"always {model}": values[:, 1 + i] for i, model in enumerate(models)},
    }


def run(args: argparse.Namespace) -> Report:
    """Evaluate, ask, compare."""
    with _serving.serving(args, {"evaluator": EVALUATOR}) as pool:
        story = asyncio.run(_play(pool, args))
    ways = judged(story)
    auto = ways["auto"]
    rows, results = [], {}
    for way, values in ways.items():
        gain, half = interval(auto[:, 0] - values[:, 0])
        rows.append((way, *interval(values[:, 0]), *interval(values[:, 1]), values[:, 2].mean(), gain, half))
        results[way] = {
            "utility": interval(values[:, 0]),
            "accuracy": interval(values[:, 1]),
            "e2e_s": float(values[:, 2].mean()),
            "gain_of_auto": (gain, half),
        }
    print_table(
        ("way", "utility", "±", "accuracy", "±", "mean e2e s", "auto gains", "±"),
        rows,
        title=f"{len(auto)} held-out items",
    )
    bars = []
    for way in ways:
        if way.startswith(("best single", "plain")):
            gain, half = interval(auto[:, 0] - ways[way][:, 0])
            bars.append(
                bar(
                    f"auto.gain_over_{way.partition(',')[0].replace(' ', '_')}.low",
                    gain - half,
                    ">=",
                    0.0,
                    half,
                )
            )
    asked = [asdict(replace(row[0], decision_id="")) for row in story["table"]]
    return Report("auto", tuple(bars), {"ways": results, "asked": asked})
