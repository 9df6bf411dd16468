"""Streaming through FastServe against the same engine process asked directly, rounds interleaved."""

import argparse
import asyncio
import os
import random
from statistics import median
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving import served_pool
from scripts.benchmarks.serving.processes import Groups, Usage
from scripts.benchmarks.serving.streams import Round, Target, round_of
from serve_app.console.text_table import print_table

PROMPT: Final = "Write a long story about ship number {}, its crew and the weather they meet."
PROCESSES: Final = {
    "engine": ("VLLM::",),
    "replica": ("ServeReplica:model-",),
    "ingress": ("ServeReplica:fastserve:Ingress",),
    "haproxy": ("haproxy",),
    "table": ("ray::TableActor",),
}
_RESAMPLES: Final = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    served_pool.add_arguments(parser)
    parser.add_argument("--model", default="smollm2-135m", help="the model whose engine is asked")
    parser.add_argument("--rounds", type=int, default=10, help="at least 8")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96, help="tokens a stream")
    parser.add_argument("--singles", type=int, default=100, help="requests on one stream, per way")
    parser.add_argument(
        "--ttft-model",
        default="tiny",
        help="asked on one stream: the faster its prefill, the finer the figure",
    )


async def _targets(pool: served_pool.Serving, model: str) -> list[Target]:
    """The engine's own port, and FastServe by `auto` and by name."""
    snapshot = await pool.table.snapshot("", 0, 5.0)
    replica = snapshot.models[model].replicas[0]
    engine = {"Authorization": f"Bearer {await pool.table.secret()}"}
    caller = {"Authorization": f"Bearer {pool.key}"}
    only = {"fastserve": {"models": [model]}}
    return [
        Target("direct", replica.url, engine, model, {}),
        Target("auto", pool.url, caller, "auto", only),
        Target("named", pool.url, caller, model, {}),
    ]


def _spread(values: list[float]) -> float:
    """Half-width of the bootstrap 95 % interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (_RESAMPLES, len(values))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(high - low) / 2.0


async def _measure(
    targets: list[Target], quick: list[Target], args: argparse.Namespace
) -> tuple[dict[str, list[Round]], Any, Any]:
    """Rounds of many streams with CPU use, then single streams; the order is drawn anew each round."""
    order = random.Random(0)
    rounds: dict[str, list[Round]] = {target.name: [] for target in targets}
    singles: dict[str, list[Round]] = {target.name: [] for target in targets}
    cpu: dict[str, list[dict[str, float]]] = {target.name: [] for target in targets}
    groups = Groups(PROCESSES, {"client": [os.getpid()]})
    for target in targets:
        await round_of(target, [PROMPT.format(i) for i in range(args.streams)], 16)
    with tqdm(total=len(targets) * (args.rounds + args.singles), unit="round") as progress:
        for number in range(args.rounds):
            prompts = [PROMPT.format(number * args.streams + i) for i in range(args.streams)]
            for target in order.sample(targets, len(targets)):
                progress.set_description(f"{args.streams} streams, {target.name}")
                before = groups.usage()
                done = await round_of(target, prompts, args.tokens)
                rounds[target.name].append(done)
                cpu[target.name].append(_per_token_us(before, groups.usage(), done.tokens))
                progress.update()
        for number in range(args.singles):
            for target in order.sample(quick, len(quick)):
                progress.set_description(f"1 stream, {target.name}")
                singles[target.name].append(await round_of(target, [PROMPT.format(number)], 8))
                progress.update()
    return rounds, singles, cpu


def _per_token_us(before: dict[str, Usage], after: dict[str, Usage], tokens: int) -> dict[str, float]:
    return {name: (after[name].cpu_s - before[name].cpu_s) / tokens * 1e6 for name in after}


def run(args: argparse.Namespace) -> Report:
    """Start the pool, measure all ways, hold them against the bars."""
    if args.rounds < 8:
        raise SystemExit(f"--rounds: {args.rounds}, at least 8 are needed for an interval.")
    with served_pool.serving(args) as pool:
        targets, quick = (asyncio.run(_targets(pool, m)) for m in (args.model, args.ttft_model))
        rounds, singles, cpu = asyncio.run(_measure(targets, quick, args))
    return _report(args, rounds, singles, cpu)


def _report(args: argparse.Namespace, rounds: Any, singles: Any, cpu: Any) -> Report:
    bars, table = [], []
    for name in rounds:
        ratios = [
            a.tokens_per_s / b.tokens_per_s for a, b in zip(rounds[name], rounds["direct"], strict=True)
        ]
        ttfts = [1e3 * one.streams[0].ttft_s for one in singles[name]]
        added = [a - 1e3 * b.streams[0].ttft_s for a, b in zip(ttfts, singles["direct"], strict=True)]
        speed = median(one.tokens_per_s for one in rounds[name])
        table.append(
            (name, speed, median(ratios), _spread(ratios), median(ttfts), median(added), _spread(added))
        )
        if name != "direct":
            ratio, spread = median(ratios), _spread(ratios)
            bars.append(bar(f"serving.tokens_ratio.{name}", ratio, ">=", 0.98, spread))
            bars.append(bar(f"serving.tokens_ratio.{name}, lower end", ratio - spread, ">=", 0.95))
            bars.append(bar(f"serving.ttft_added_ms.{name}", median(added), "<=", 2.0, _spread(added)))
    print_table(
        ("way", "tokens/s", "ratio", "±", "TTFT ms", "added ms", "±"),
        table,
        title=f"{args.streams} streams of {args.tokens} tokens, {args.model}; TTFT on one, {args.ttft_model}",
    )
    per_token = {
        way: {group: median(row[group] for row in rows) for group in rows[0]} for way, rows in cpu.items()
    }
    groups = list(next(iter(per_token.values())))
    print_table(
        ("way", *groups),
        [(way, *(row[group] for group in groups)) for way, row in per_token.items()],
        title="CPU microseconds a streamed token",
    )
    results = {
        "rounds": {name: [one.tokens_per_s for one in some] for name, some in rounds.items()},
        "ttft_ms": {name: [1e3 * one.streams[0].ttft_s for one in some] for name, some in singles.items()},
        "cpu_us_per_token": per_token,
    }
    return Report("serving", tuple(bars), results)
