"""The loop by itself: a fresh pool gets nothing but traffic; does `auto` end above the best single model?

Users of all profiles ask generated questions with known answers and vote on what they get. Evaluation,
fitting, training, gates, canary and promotion are the pool's own doing. After the promotion every item is
asked by `auto` and of each model by name, in random order, and the utilities are compared item by item,
with those of other ways to choose too (scripts.benchmarks.learning.ways).
"""

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from scripts.benchmarks.learning.learn_plot import draw
from scripts.benchmarks.learning.traffic import Asked, User, callers, compared
from scripts.benchmarks.learning.ways import Comparison, decisions_since, judged
from scripts.benchmarks.report import Report, bar, interval
from scripts.benchmarks.serving import served_pool
from scripts.models.data import traffic_items
from serve_app.console.text_table import print_table

EVALUATOR: Final = {
    "suites": [f"suites/{name}.jsonl" for name in (
        "customer-service", "content-creation", "document-generation", "recommendation"
    )],
    "interval_s": 30,
    "pace": {"concurrency": 2, "user_share": 1.0, "give_way": False},
}  # fmt: skip
LEARNER: Final = {
    "watch_s": 2,
    "look_s": 10,
    "retry_s": 30,
    "min_new_items": 300,
    "retrain_s": 240,
    "votes_s": 10,
    "training": {"decisions": 300_000, "environments": 16, "episodes": 12, "episode_requests": 300},
    "gates": {"min_effective_sample_size": 30, "slice_margin": 0.2, "paired_margin": 0.02},
    "canary": {
        "ladder": [0.25, 0.5],
        "min_requests": 15,
        "min_step_s": 15,
        "shadow_requests": 20,
        "margin": 0.14,
        "least_gain": 0.05,
        "min_slice_s": 5,
        "slice_latencies": 2,
        "slice_requests": 5,
    },
}
AFTER_S: Final = 120.0  # of traffic after the promotion, for the picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    served_pool.add_arguments(parser)
    parser.add_argument("--minutes", type=float, default=25.0, help="all in all, at most")
    parser.add_argument(
        "--compared", type=int, default=400, help="items asked of every model at the end, as time allows"
    )
    parser.add_argument("--rate", type=float, default=0.7, help="requests/s of the traffic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="write shares, reward, accuracy and latency here, as PNG")


async def _traffic(user: User, args: argparse.Namespace, stop: asyncio.Event, log: list[Asked]) -> None:
    """Poisson traffic of all profiles until `stop`."""
    rng = random.Random(args.seed)
    running: set[asyncio.Task[None]] = set()

    async def one(item: Any) -> None:
        log.append(await user.ask(item))

    for item in traffic_items(args.seed):
        if stop.is_set():
            break
        task = asyncio.create_task(one(item))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(rng.expovariate(args.rate))
    await asyncio.gather(*running)


async def _until_promoted(pool: served_pool.Serving, deadline_s: float, log: Sequence[Asked]) -> bool:
    """Wait for a learned version to be active."""
    with tqdm(desc="traffic", unit="request") as progress:
        while time.monotonic() < deadline_s:
            progress.update(len(log) - progress.n)
            events = await pool.table.policy_events()
            progress.set_postfix_str(f"{events[-1].kind} {events[-1].version}" if events else "evaluating")
            if (await pool.table.rollout()).active is not None:
                return True
            await asyncio.sleep(2.0)
    return False


async def _play(pool: served_pool.Serving, args: argparse.Namespace) -> dict[str, Any]:
    began_s, deadline_s = time.time(), time.monotonic() + 60.0 * args.minutes
    user = User(pool.url, pool.key, callers(args.config), began_s)
    log: list[Asked] = []
    stop = asyncio.Event()
    traffic = asyncio.create_task(_traffic(user, args, stop, log))
    try:
        promoted = await _until_promoted(pool, deadline_s - 240.0, log)
        took_s = time.time() - began_s
        if promoted:
            await asyncio.sleep(AFTER_S)
        stop.set()
        await traffic
        models = sorted((await pool.table.snapshot("", 0, 5.0)).models)
        items = list(islice(traffic_items(args.seed + 1), args.compared))
        table = await compared(user, items, models, args.seed + 1, deadline_s)
        events = [
            {**asdict(event), "at_s": event.at_s - began_s} for event in await pool.table.policy_events()
        ]
        await asyncio.sleep(2.0)  # the last decisions reach the table
        known = Comparison(
            models,
            user.callers,
            await pool.table.evaluations(None, None),
            await decisions_since(pool.table, began_s),
            table,
        )
    finally:
        stop.set()
        await user.close()
    return {"promoted": promoted, "promoted_s": took_s, "log": log, "known": known, "events": events}


def run(args: argparse.Namespace) -> Report:
    """Play the whole story and judge its end."""
    with served_pool.serving(args, {"evaluator": EVALUATOR, "learner": LEARNER}) as pool:
        story = asyncio.run(_play(pool, args))
    known: Comparison = story["known"]
    ways = judged(known)
    auto = ways["auto"][:, 0]
    gains = {way: interval(auto - values[:, 0]) for way, values in ways.items()}
    print_table(
        ("way", "utility", "± 95 %", "accuracy", "± 95 %", "mean latency s", "auto gains", "± 95 %"),
        [
            (way, *interval(values[:, 0]), *interval(values[:, 1]), values[:, 2].mean(), *gains[way])
            for way, values in ways.items()
        ],
        title=f"{len(auto)} items asked every way",
    )
    best = max(known.models, key=lambda model: float(ways[model][:, 0].mean()))
    gain, half = gains[best]
    bars = (
        bar("learn_demo.promoted", float(story["promoted"]), ">=", 1.0),
        bar("learn_demo.promoted_s", story["promoted_s"], "<=", 60.0 * args.minutes),
        bar("learn_demo.gain_over_best_single.low", gain - half, ">=", 1e-9, half),
        bar("learn_demo.failed_requests", sum(one.failed for one in story["log"]), "<=", 0),
    )
    results = {
        "ways": {
            way: {
                "utility": interval(values[:, 0]),
                "accuracy": interval(values[:, 1]),
                "e2e_s": float(values[:, 2].mean()),
                "gain_of_auto": gains[way],
            }
            for way, values in ways.items()
        },
        "best_single": best,
        "events": story["events"],
        "traffic": [asdict(replace(one, decision_id="")) for one in story["log"]],
    }
    if args.plot:
        draw(story["log"], story["events"], args.plot)
    return Report("learn_demo", bars, results)
