"""Does the canary say the truth? Candidates of planted effect in a simulated pool, against their full use.

Each run is the served canary (policies.promotion.canary) from the shadow on: slices of the whole pool, drawn
from its seed, one number a block. The truth is what each version earns when it serves all requests by itself,
which is what comparing single requests cannot see. Live scores are the quality model's predictions, as they
are without votes.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np

from policies.learned.policy import LearnedPolicy
from policies.promotion.canary import Canary, CanarySettings
from policies.promotion.graded import GradedPair
from policies.promotion.rollout import Candidate, Stage, Step
from policies.promotion.spending import level
from policies.simulator.environment import DispatchVectorEnv
from policies.simulator.scenario import ScenarioMix, pool_capacity_per_s
from policies.simulator.workload import synthetic_quality
from policies.training.trainer import LocalRunners, Trainer, TrainingConfig
from scripts.benchmarks.learning.evidence_pool import (
    CALLER,
    DEADLINE_S,
    HASTY,
    LEARNED,
    ROWS,
    SELFISH,
    Kind,
    Trial,
    alone,
    cost_scale_usd,
    lengths,
    models,
    trial,
)
from scripts.benchmarks.load.jobs import run_all
from scripts.benchmarks.report import Bar, Report, bar, interval
from serve_app.console.text_table import print_table

LOADS: Final = (0.5, 0.8, 1.0, 1.2, 1.5)
SETTINGS: Final = CanarySettings(ladder=(0.2, 0.5))
# Never stops and cuts no slice, to measure without bias.
ENDLESS: Final = CanarySettings(ladder=(0.5,), alpha=1e-300, max_failures_above=0.99)
NEVER: Final = 1e-300
LEVEL: Final = level(0.05, 1) / 2.0  # of a candidate for which the gates have shown a gain
TRUE_EFFECT: Final = 0.01  # from which on the verdict has to be right
_RULE: Final = Kind("rule")
_SELFISH: Final = Kind("selfish", SELFISH)
NONE: Final = "the same again"
PAIRS: Final = 1_000  # prompts for which both versions' choices are graded
DIFFER: Final = 0.3  # share of them on which the versions choose differently
BUG: Final = 0.05  # of the score, over all prompts
_QUALITY_TRIAL: Final = Candidate(1, Stage.CANARY, seed=1, steps=(Step(0.0, 0.5),))


def candidates() -> dict[str, tuple[Kind, Kind]]:
    """Each candidate with its incumbent."""
    return {
        NONE: (_RULE, _RULE),
        "PPO": (Kind("PPO", LEARNED), _RULE),
        "rule": (_RULE, _SELFISH),
        "selfish": (_SELFISH, _RULE),
        "broken": (Kind("broken", breaks=0.3), _RULE),
        "rescued": (Kind("rescued", rescued=0.3), _RULE),
        "losing quality": (Kind("losing quality", HASTY), _RULE),
    }


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a canary, or of a version by itself where `candidate` is None."""

    incumbent: Kind
    candidate: Kind | None
    load: float
    seed: int
    requests: int
    stops: bool = True  # False: the canary only measures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--runs", type=int, default=40, help="runs of each candidate at each of five loads")
    parser.add_argument("--requests", type=int, default=80_000, help="most requests of a run")
    parser.add_argument("--truth", type=int, default=6, help="seeds of each version by itself")
    parser.add_argument("--decisions", type=int, default=600_000, help="simulated decisions to train on")
    parser.add_argument("--processes", type=int, default=2)


def train(decisions: int) -> bytes:
    """A policy trained on this pool, as a checkpoint."""
    trace = lengths(8_000, np.random.default_rng(77))
    config = TrainingConfig(decisions=decisions, hidden=16)
    source = ScenarioMix(
        trace, pool_capacity_per_s(models(), trace), np.arange(ROWS), CALLER, length=2_048, caller_share=1.0
    )
    table = synthetic_quality(3, ROWS, 5).expected()

    def make_env(seed: int) -> DispatchVectorEnv:
        return DispatchVectorEnv(
            models(), table, source, 32, seed=seed, deadline_s=DEADLINE_S, cost_scale_usd=cost_scale_usd()
        )

    return Trainer(config, LocalRunners(make_env, config)).run().to_bytes()


@lru_cache(maxsize=1)
def _policy(checkpoint: bytes) -> LearnedPolicy:
    return LearnedPolicy.from_bytes(checkpoint)


def work(checkpoint: bytes, job: Job) -> Trial | tuple[float, float]:
    """Run one job."""
    policy = _policy(checkpoint)
    loaded = [
        kind if kind is None or kind.chooses != LEARNED
        else Kind(kind.name, kind.chooses, kind.breaks, kind.rescued, policy)
        for kind in (job.incumbent, job.candidate)
    ]  # fmt: skip
    incumbent, candidate = loaded
    assert incumbent is not None
    if candidate is None:
        return alone(incumbent, job.load, job.requests, job.seed)
    settings, level_ = (SETTINGS, LEVEL) if job.stops else (ENDLESS, NEVER)
    return trial(candidate, incumbent, job.load, job.requests, job.seed, settings, level_)


def run(args: argparse.Namespace) -> Report:
    """Train, let every version serve alone, then every candidate its canaries."""
    checkpoint = train(args.decisions)
    kinds = {kind.name: kind for pair in candidates().values() for kind in pair}
    truths = [
        Job(kind, None, load, 1_000 + seed, 6_000)
        for kind in kinds.values() for load in LOADS for seed in range(args.truth)
    ]  # fmt: skip
    trials = [
        Job(incumbent, candidate, load, seed, args.requests)
        for candidate, incumbent in candidates().values() for load in LOADS for seed in range(args.runs)
    ]  # fmt: skip
    measured = [replace(job, seed=500 + job.seed, stops=False) for job in trials if job.seed < args.truth]
    todo = partial(work, checkpoint)
    earned: dict[tuple[str, float], list[Any]] = {}
    for job, value in zip(truths, run_all(todo, truths, args.processes, "alone"), strict=True):
        earned.setdefault((job.incumbent.name, job.load), []).append(value)
    found = _by_cell(trials, run_all(todo, trials, args.processes, "canary"))
    endless = _by_cell(measured, run_all(todo, measured, args.processes, "measured"))
    cells = [_summary(name, load, earned, found[name, load], endless[name, load]) for name, load in found]
    quality = {name: _quality_runs(drop, 5 * args.runs) for name, drop in (("bug", BUG), ("none", 0.0))}
    return _report(args, cells, found, quality)


def _quality_runs(drop: float, runs: int) -> tuple[int, list[int]]:
    """Canaries that graded pairs sent back within PAIRS, and after how many pairs.

    The versions choose differently on a share of the prompts; there the quality model, fitted on suites that
    hold none of these, predicts the same of both, and the candidate's choice is worse, by `drop` over all.
    """
    caught: list[int] = []
    for seed in range(runs):
        rng = np.random.default_rng([seed, 41])
        canary = Canary(_QUALITY_TRIAL, SETTINGS)
        differs = rng.random(PAIRS) < DIFFER
        usual = rng.beta(3.0, 2.0, PAIRS).clip(0.0, 1.0)
        worse = (usual - drop / DIFFER).clip(0.0, 1.0)
        scores = rng.random((2, PAIRS)) < np.stack([worse, usual])
        for number in np.flatnonzero(differs):
            predicted = rng.normal(usual[number], 0.1, 2)
            canary.graded(GradedPair(*(float(one) for one in scores[:, number]), *predicted.tolist()))
            if canary.looked(0.0).stage is Stage.ROLLED_BACK:
                caught.append(int(number) + 1)
                break
    return len(caught), caught


def _by_cell(jobs: Sequence[Job], trials: Sequence[Any]) -> dict[tuple[str, float], list[Trial]]:
    """The runs of each candidate at each load."""
    names = {pair: name for name, pair in candidates().items()}
    cells: dict[tuple[str, float], list[Trial]] = {}
    for job, one in zip(jobs, trials, strict=True):
        assert job.candidate is not None
        cells.setdefault((names[job.candidate, job.incumbent], job.load), []).append(one)
    return cells


def _summary(
    name: str, load: float, earned: Mapping[Any, Any], trials: Sequence[Trial], endless: Sequence[Trial]
) -> dict[str, Any]:
    """One candidate at one load: the truth, what the canary measured, how it ended."""
    candidate, incumbent = candidates()[name]
    pairs = np.array(earned[candidate.name, load]) - np.array(earned[incumbent.name, load])
    true, spread = interval(pairs[:, 0].tolist())
    measured, error = interval([one.estimate for one in endless if math.isfinite(one.estimate)])
    stages = [one.stage for one in trials]
    return {
        "candidate": name,
        "load": load,
        "true": true,
        "true_spread": spread,
        "refused": float(np.mean([1.0 - share for _, share in earned[incumbent.name, load]])),
        "measured": measured,
        "measured_spread": error,
        "promoted": stages.count(Stage.PROMOTED.value),
        "rolled_back": stages.count(Stage.ROLLED_BACK.value),
        "undecided": stages.count(Stage.CANARY.value),
        "slice_s": float(np.median([one.slice_s for one in trials])),
        "blocks": float(np.median([one.blocks for one in trials])),
        "requests": float(np.median([one.requests for one in trials])),
        "block_deviation": float(np.nanmedian([one.spread for one in endless])),
    }


def _report(
    args: argparse.Namespace,
    cells: Sequence[Mapping[str, Any]],
    found: Mapping[Any, Sequence[Trial]],
    quality: Mapping[str, tuple[int, list[int]]],
) -> Report:
    columns = ("candidate", "load", "true", "measured", "promoted", "rolled_back", "undecided", "blocks")
    print_table(columns, [tuple(cell[column] for column in columns) for cell in cells])
    results = {
        "loads": LOADS,
        "runs": args.runs,
        "settings": SETTINGS.model_dump(),
        "level": LEVEL,
        "cells": cells,
        "graded": {
            name: {"caught": count, "pairs_p50": float(np.median(pairs)) if pairs else None}
            for name, (count, pairs) in quality.items()
        },
        "trials": {
            f"{name} | {load}": [asdict(one) for one in trials] for (name, load), trials in found.items()
        },
    }
    caught = {name: count / (5 * args.runs) for name, (count, _) in quality.items()}
    graded = (
        bar("quality bug caught within 1,000 graded pairs", caught["bug"], ">=", 0.8),
        bar("sent back by graded pairs without a bug", caught["none"], "<=", 0.05),
    )
    return Report("evidence", (*_bars(cells, args.runs), *graded), results)


def _bias(cell: Mapping[str, Any]) -> tuple[float, float]:
    """How far what was measured is from the truth, over the truth; and how well the runs tell that."""
    spread = math.hypot(cell["true_spread"], cell["measured_spread"])
    return abs(cell["measured"] - cell["true"]) / abs(cell["true"]), spread / abs(cell["true"])


def _bars(cells: Sequence[Mapping[str, Any]], runs: int) -> list[Bar]:
    clear = [cell for cell in cells if abs(cell["true"]) >= TRUE_EFFECT and cell["candidate"] != NONE]
    right = {"gain": 0, "loss": 0}
    for cell in clear:
        side = "gain" if cell["true"] > 0 else "loss"
        right[side] += cell["promoted" if side == "gain" else "rolled_back"]
    total = runs * max(len(clear), 1)
    biases = [_bias(cell) for cell in clear]
    largest = max(biases)
    of = {name: [cell for cell in cells if cell["candidate"] == name] for name in candidates()}
    alarmed = sum(cell["rolled_back"] for cell in of[NONE])
    return [
        bar("verdict of the right sign", sum(right.values()) / total, ">=", 0.95),
        bar("median bias, share of the effect", float(np.median([bias for bias, _ in biases])), "<=", 0.25),
        bar("largest bias, share of the effect", largest[0], "<=", 0.25, largest[1]),
        bar("sent back without an effect", alarmed / (runs * len(LOADS)), "<=", 0.05),
        bar("selfish ones promoted", sum(cell["promoted"] for cell in of["selfish"]), "<=", 0.0),
    ]
