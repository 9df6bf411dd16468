"""The priced rule against the formula, on the same replayed requests under every standard load."""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from policies.arrays import F64
from policies.simulator.scenario import STANDARD, Scenario
from scripts.benchmarks.load.jobs import FORMULA, PRICED, Replay, run_all, run_replay
from scripts.benchmarks.load.pool import TARGET_S
from scripts.benchmarks.load.replay import blocks, summarise
from scripts.benchmarks.load.study import Study, make_study
from scripts.benchmarks.report import Bar, Report, bar, interval
from serve_app.console.text_table import print_table

BLOCKS: Final = 10  # paired blocks per replay
WAYS: Final = (FORMULA, PRICED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--arrivals", type=Path, help="CSV: arrival_s, prompt_tokens, output_tokens (default: synthetic)"
    )
    parser.add_argument("--quality", type=Path, help="JSONL: prompt, task, scores (default: synthetic)")
    parser.add_argument("--seeds", type=int, default=5, help="scoring seeds (default 5)")
    parser.add_argument("--requests", type=int, default=1_000, help="requests of a replay (default 1000)")
    parser.add_argument("--processes", type=int, default=2, help="worker processes (default 2)")


def run(args: argparse.Namespace) -> Report:
    """Both on the same requests under every standard load."""
    study = make_study(args.arrivals, args.quality)
    jobs = [
        Replay(way, "", scenario, seed, train=False, requests=args.requests)
        for scenario in STANDARD
        for way in WAYS
        for seed in range(args.seeds)
    ]
    replays: list[Any] = run_all(partial(run_replay, study), jobs, args.processes, title="replay")
    scored: dict[tuple[str, str], list[Any]] = {}
    for job, requests in zip(jobs, replays, strict=True):
        scored.setdefault((job.scenario.name, job.dispatcher), []).append(requests)
    return _report(study, args, scored)


def _utility(replays: list[Any]) -> F64:
    return np.concatenate([blocks(requests, BLOCKS) for requests in replays])


def _report(study: Study, args: argparse.Namespace, scored: dict[tuple[str, str], list[Any]]) -> Report:
    rows, bars = [], []
    for scenario in STANDARD:
        formula, priced = (_utility(scored[scenario.name, way]) for way in WAYS)
        gain, spread = interval(priced - formula)
        rows.append((scenario.name, float(formula.mean()), float(priced.mean()), gain, spread))
        bars.append(_bar(scenario, gain, spread))
    print_table(("load", "formula", "priced rule", "gain", "± 95 %"), rows, "utility a request")
    table = {
        f"{scenario} | {way}": asdict(summarise(np.concatenate(replays), TARGET_S))
        for (scenario, way), replays in scored.items()
    }
    effort = {"seeds": args.seeds, "requests": args.requests, "models": len(study.models)}
    return Report("rule", tuple(bars), {"effort": effort, "capacity_per_s": study.capacity, "table": table})


def _bar(scenario: Scenario, gain: float, spread: float) -> Bar:
    """Not below the formula by more than the interval."""
    return bar(f"{scenario.name}: gain of the priced rule", gain, ">=", -spread, spread)
