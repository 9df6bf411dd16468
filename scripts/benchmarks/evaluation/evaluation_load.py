"""Users' time to first token with and without an evaluation running, on the real pool, in turns."""

import argparse
import asyncio
import json
import random
import time
from pathlib import Path

import aiohttp
import numpy as np
from tqdm import tqdm

from deployments import sse
from deployments.evaluation.session import Session
from deployments.evaluation.settings import PaceSettings
from deployments.suites.suite import Suite
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving import served_pool
from serve_app.console.evaluation import DEFAULT_SUITES, load_suites
from serve_app.console.text_table import print_table

WARM_REQUESTS = 12
QUESTIONS = (
    "Is this review positive or negative? '{n} rooms, all clean, and kind staff.' Answer in one word.",
    "Write one short sentence about the number {n}.",
    "顾客说：我的{n}号订单还没到。请用一句话回答。",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    served_pool.add_arguments(parser)
    parser.add_argument("--suite", action="append", default=[], type=Path, help="repeat for more")
    parser.add_argument("--rate", type=float, default=1.0, help="users' requests/s, Poisson (default 1)")
    parser.add_argument("--phase-s", type=float, default=30.0, help="length of a phase (default 30)")
    parser.add_argument("--rounds", type=int, default=4, help="pairs of phases (default 4)")
    parser.add_argument("--quiet-s", type=float, default=2.0, help="pace of the evaluation (default 2)")


def run(args: argparse.Namespace) -> Report:
    """Phases in turns, the same arrivals in both of a pair; the order within a pair alternates."""
    suites = load_suites(args.suite or sorted(DEFAULT_SUITES.glob("*.jsonl*")))
    with served_pool.serving(args) as pool:
        return asyncio.run(_measure(args, pool, suites))


async def _measure(args: argparse.Namespace, pool: served_pool.Serving, suites: list[Suite]) -> Report:
    pace = PaceSettings(
        concurrency=1, user_share=0.0, shared_machine=True, quiet_s=args.quiet_s, met_share=0.01
    )
    session = Session(pool.table, pool.url, pool.key, suites, None, pace, again=True)
    ttft: dict[bool, list[float]] = {False: [], True: []}
    async with _client(pool) as client:
        for n in range(WARM_REQUESTS):
            await _ttft_s(client, n)
        counts = np.zeros(3, dtype=int)  # answered, asked, gave way
        for turn in tqdm(range(2 * args.rounds), desc="phases"):
            evaluating = (turn % 2 == 0) == (turn // 2 % 2 == 0)
            running = asyncio.create_task(_evaluate(session)) if evaluating else None
            ttft[evaluating] += await _users(client, args.rate, args.phase_s, seed=turn // 2)
            if running is not None:
                running.cancel()
                counts += np.array(await running)
    return _report(ttft, *counts.tolist())


async def _evaluate(session: Session) -> list[int]:
    """Runs until it is cancelled; returns answered, asked, given way."""
    counts = [0, 0, 0]

    def take(progress: object) -> None:
        counts[:] = [getattr(progress, name) for name in ("done", "asked", "gave_way")]

    try:
        await session.run(take)
    except asyncio.CancelledError:
        return counts
    return counts


def _client(pool: served_pool.Serving) -> aiohttp.ClientSession:
    headers = {"authorization": f"Bearer {pool.key}"}
    return aiohttp.ClientSession(pool.url, headers=headers, timeout=aiohttp.ClientTimeout(total=120.0))


async def _users(client: aiohttp.ClientSession, rate: float, phase_s: float, seed: int) -> list[float]:
    """TTFT of Poisson arrivals during a phase, the same for the same seed; all are answered when it ends."""
    draw, tasks, at_s = random.Random(seed), [], 0.0
    started_s = time.monotonic()
    while (at_s := at_s + draw.expovariate(rate)) < phase_s:
        await asyncio.sleep(max(0.0, started_s + at_s - time.monotonic()))
        tasks.append(asyncio.create_task(_ttft_s(client, draw.randrange(10_000))))
    await asyncio.sleep(max(0.0, started_s + phase_s - time.monotonic()))
    return list(await asyncio.gather(*tasks))


async def _ttft_s(client: aiohttp.ClientSession, n: int) -> float:
    """Seconds to the first text. Raises RuntimeError where the answer is no stream of text."""
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": QUESTIONS[n % len(QUESTIONS)].format(n=n)}],
        "max_tokens": 16,
        "stream": True,
    }
    started_s, first_s = time.perf_counter(), None
    async with client.post("/v1/chat/completions", json=body) as response:
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {(await response.text())[:200]}")
        async for event in sse.events(response.content.iter_any()):
            if event.data == sse.DONE:
                break
            if first_s is None and _has_text(event.data or b""):
                first_s = time.perf_counter()
    if first_s is None:
        raise RuntimeError("An answer without text.")
    return first_s - started_s


def _has_text(data: bytes) -> bool:
    choices = json.loads(data).get("choices") or [{}]
    return bool((choices[0].get("delta") or {}).get("content"))


def _report(ttft: dict[bool, list[float]], answered: int, asked: int, gave_way: int) -> Report:
    rows = []
    for evaluating, values in ttft.items():
        p50, p95 = (float(np.percentile(values, p)) for p in (50, 95))
        rows.append(("with evaluation" if evaluating else "without", len(values), p50, p95, max(values)))
    print_table(("users", "requests", "TTFT p50 s", "p95 s", "max s"), rows)
    print(f"meanwhile {answered} items answered, {asked} asked, {gave_way} gave way to users")
    ratio, spread = ratio_p95(ttft[True], ttft[False])
    bars = (
        bar("p95 TTFT with over without evaluation", ratio, "<=", 1.2, spread),
        bar("items answered meanwhile", answered, ">=", 1),
    )
    heads = ("users", "requests", "p50_s", "p95_s", "max_s")
    results = {
        "phases": [dict(zip(heads, row, strict=True)) for row in rows],
        "asked": asked,
        "gave_way": gave_way,
    }
    return Report("evaluation_load", bars, results)


def ratio_p95(with_s: list[float], without_s: list[float], draws: int = 2000) -> tuple[float, float]:
    """Ratio of the 95th percentiles, and the half-width of its 95 % bootstrap interval."""
    generator = np.random.default_rng(0)
    a, b = np.array(with_s), np.array(without_s)
    ratios = [
        np.percentile(generator.choice(a, len(a)), 95) / np.percentile(generator.choice(b, len(b)), 95)
        for _ in range(draws)
    ]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.percentile(a, 95) / np.percentile(b, 95)), float(high - low) / 2
