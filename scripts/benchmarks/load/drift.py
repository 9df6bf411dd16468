"""Drift: a model slows, loses quality, changes its price, is added or dies; how soon the traffic follows."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from policies.arrays import F64
from policies.baselines.simple import BestSinglePolicy
from policies.baselines.static_mix import StaticMixPolicy, best_mix
from policies.learned.policy import LearnedPolicy
from policies.policy import Policy
from policies.reward import lateness
from policies.simulator.scenario import Scenario
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec, capacity_per_s, step_s
from policies.training.trainer import TrainingConfig
from scripts.benchmarks.load.drift_run import Course, Drift, DriftingPool, lowest_window, moved_after
from scripts.benchmarks.load.jobs import Training, run_all, run_training
from scripts.benchmarks.load.pool import CALLER, TARGET_S
from scripts.benchmarks.load.study import Study, make_study
from scripts.benchmarks.report import Bar, Report, bar
from serve_app.console.text_table import print_table

LOAD = 0.6
EVENT_AT = 0.4  # share of the episode before the event
TOLERANCE = 0.01  # of the static mix's utility, over any 1,000 requests
MOST_GRADED = 150
SLOWDOWN, QUALITY_LEFT, PRICE_FACTOR = 5.0, 0.4, 20.0
KINDS = ("slows 5x", "loses quality", "price x20", "one is added", "one dies")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--arrivals", type=Path, help="CSV: arrival_s, prompt_tokens, output_tokens (default: synthetic)"
    )
    parser.add_argument("--quality", type=Path, help="JSONL: prompt, task, scores (default: synthetic)")
    parser.add_argument(
        "--policy", type=Path, help="checkpoint of a learned policy (default: one is trained)"
    )
    parser.add_argument("--decisions", type=int, default=300_000, help="of that training (default 300,000)")
    parser.add_argument("--requests", type=int, default=5000, help="requests per episode (default 5000)")
    parser.add_argument("--processes", type=int, default=2, help="worker processes (default 2)")


@dataclass(frozen=True, slots=True)
class Found:
    """One kind of drift: requests and seconds until half of the traffic had moved (None: it did not move),
    mean utilities after the event, the worst 1,000 requests against the static mix, relative to it."""

    kind: str
    model: str
    requests: int | None
    seconds: float | None
    graded: int
    utility: float
    static_mix: float
    best_fixed: float
    best_fixed_name: str
    worst_window: float


def run(args: argparse.Namespace) -> Report:
    """One episode per kind of drift."""
    study = make_study(args.arrivals, args.quality)
    if args.policy:
        checkpoint = args.policy.read_bytes()
    else:
        checkpoint = run_training(study, Training("drift", TrainingConfig(decisions=args.decisions))).policy
    work = partial(_study_drift, study, checkpoint, args.requests)
    found = run_all(work, KINDS, args.processes, "drift")
    rows = [_row(f) for f in found]
    headers = ("drift", "model", "requests", "seconds", "graded", "utility", "static mix")
    title = f"load {LOAD}; event after {EVENT_AT:.0%} of {args.requests} requests"
    print_table((*headers, "best fixed", "regret", "worst 1,000"), rows, title)
    return Report("drift", tuple(_bars(found)), {f.kind: _as_dict(f) for f in found})


def _row(f: Found) -> tuple[object, ...]:
    moved = (f.kind, f.model, _or_dash(f.requests), _or_dash(f.seconds), f.graded)
    return *moved, f.utility, f.static_mix, f.best_fixed, f.best_fixed - f.utility, f.worst_window


def _or_dash(value: float | None) -> object:
    return "-" if value is None else round(value, 1)


def _bars(found: list[Found]) -> list[Bar]:
    bars = [
        bar(f"{f.kind}: worst 1,000 requests against the static mix", f.worst_window, ">=", -TOLERANCE)
        for f in found
    ]
    added = next(f for f in found if f.kind == "one is added")
    graded = float(added.graded) if added.requests is not None else float("inf")
    bars.append(bar("one is added: items graded until it has its share", graded, "<=", MOST_GRADED))
    moved = sum(f.requests is not None for f in found)
    bars.append(bar("kinds of drift that the traffic followed", moved, ">=", len(found)))
    return bars


def _as_dict(f: Found) -> dict[str, object]:
    return {name: getattr(f, name) for name in Found.__slots__} | {"regret": f.best_fixed - f.utility}


def _simulator(study: Study) -> QueueSimulator:
    """Its own table, which a drift may change."""
    return replace(study).simulator()


def _drift(kind: str, model: int) -> Drift:
    changes: dict[str, Callable[[QueueSimulator], None]] = {
        "slows 5x": partial(_slow, model),
        "loses quality": partial(_spoil, model),
        "price x20": partial(_reprice, model),
        "one is added": partial(_add, model),
        "one dies": partial(_die, model),
    }
    added = kind == "one is added"
    return Drift(kind, model, changes[kind], absent=added)


def _nothing(simulator: QueueSimulator) -> None:
    """The pool stays as it is."""


def _slow(model: int, simulator: QueueSimulator) -> None:
    p = simulator.queues.params
    for name in ("step_base_s", "step_per_sequence_s"):
        p[name][0, model] *= SLOWDOWN
    p["prefill_tokens_per_s"][0, model] /= SLOWDOWN


def _spoil(model: int, simulator: QueueSimulator) -> None:
    simulator.table.score[:, model] *= QUALITY_LEFT


def _reprice(model: int, simulator: QueueSimulator) -> None:
    for p in (simulator.queues.params, simulator.queues.believed):  # a price is configuration: known at once
        for name in ("prompt_usd_per_mtok", "completion_usd_per_mtok"):
            p[name][0, model] *= PRICE_FACTOR


def _add(model: int, simulator: QueueSimulator) -> None:
    simulator.queues.models["enabled"][0, model] = 1


def _die(model: int, simulator: QueueSimulator) -> None:
    simulator.queues.params["cold_start_s"][0, model] = 1e9
    simulator.kill(0, model)


def _study_drift(study: Study, checkpoint: bytes, requests: int, kind: str) -> Found:
    at = int(requests * EVENT_AT)
    policy = LearnedPolicy.from_bytes(checkpoint)
    model = _busiest(study, policy, requests)
    drift = _drift(kind, model)
    course = _course(study, drift, policy, requests, at, adapts=True)
    static = _course(study, drift, _static_mix(study, drift, before=True), requests, at)
    fixed = {
        name: float(_course(study, drift, rival, requests, at).requests["reward"][at:].mean())
        for name, rival in _fixed_choices(study, drift).items()
    }
    best = max(fixed, key=lambda name: fixed[name])
    nothing = Drift("none", model, _nothing, absent=drift.absent)
    without = _course(study, nothing, policy, requests, at, adapts=True)
    moved = moved_after(course, without, model, at)
    arrival = course.requests["arrival_s"]
    end = min(at + moved, requests - 1) if moved is not None else requests - 1
    gain = course.requests["reward"] - static.requests["reward"]
    return Found(
        kind=kind,
        model=study.models[model].name,
        requests=moved,
        seconds=float(arrival[end] - arrival[at]) if moved is not None else None,
        graded=int(course.graded[end] - course.graded[at]),
        utility=float(course.requests["reward"][at:].mean()),
        static_mix=float(static.requests["reward"][at:].mean()),
        best_fixed=fixed[best],
        best_fixed_name=best,
        worst_window=lowest_window(gain) / abs(float(static.requests["reward"].mean())),
    )


def _course(
    study: Study, drift: Drift, policy: Policy, requests: int, at: int, adapts: bool = False
) -> Course:
    scenario = Scenario("drift", LOAD)
    episode = study.episode(scenario, seed=0, train=False, requests=requests)
    return DriftingPool(_simulator(study), episode, drift, at, seed=0).run(policy, adapts)


def _busiest(study: Study, policy: Policy, requests: int) -> int:
    """The model with the most traffic before the event: the one whose change hurts most."""
    nothing = Drift("none", 0, _nothing)
    course = _course(study, nothing, policy, int(requests * EVENT_AT), at=-1, adapts=True)
    return int(np.bincount(course.chosen, minlength=len(study.models)).argmax())


def _worth(study: Study, drift: Drift, before: bool) -> tuple[F64, F64, F64]:
    """(value, cost, capacity) [M] of each model alone, as it was before or as it is after the event."""
    prompt, output = float(study.train.prompt_tokens.mean()), float(study.train.output_tokens.mean())
    values, costs, capacities = [], [], []
    for i, spec in enumerate(study.models):
        score = float(study.table.score[study.train_rows, i].mean())
        if i == drift.model:
            spec, score = _seen(spec, score, drift, before)
        e2e_s = prompt / spec.prefill_tokens_per_s + output * step_s(spec, spec.slots / 2)
        cost = spec.cost_usd(prompt, output)
        values.append(
            CALLER[0] * score
            - CALLER[1] * lateness(e2e_s, TARGET_S)
            - CALLER[2] * cost / study.cost_scale_usd
        )
        gone = i == drift.model and (drift.absent if before else drift.name == "one dies")
        costs.append(cost)
        capacities.append(0.0 if gone else capacity_per_s(spec, prompt, output))
    return np.array(values), np.array(costs), np.array(capacities)


def _seen(spec: ModelSpec, score: float, drift: Drift, before: bool) -> tuple[ModelSpec, float]:
    if before:
        return spec, score
    if drift.name == "slows 5x":
        return replace(
            spec,
            step_base_s=spec.step_base_s * SLOWDOWN,
            step_per_sequence_s=spec.step_per_sequence_s * SLOWDOWN,
            prefill_tokens_per_s=spec.prefill_tokens_per_s / SLOWDOWN,
        ), score
    if drift.name == "price x20":
        return replace(
            spec,
            prompt_usd_per_mtok=spec.prompt_usd_per_mtok * PRICE_FACTOR,
            completion_usd_per_mtok=spec.completion_usd_per_mtok * PRICE_FACTOR,
        ), score
    return spec, score * QUALITY_LEFT if drift.name == "loses quality" else score


def _static_mix(study: Study, drift: Drift, before: bool, headroom: float = 0.85) -> Policy:
    value, cost, capacity = _worth(study, drift, before)
    mix = best_mix(value, cost, capacity_per_s=capacity * headroom, demand_per_s=LOAD * study.capacity)
    names = [model.name for model in study.models]
    return StaticMixPolicy(dict(zip(names, mix.shares.tolist(), strict=True)))


def _fixed_choices(study: Study, drift: Drift) -> dict[str, Policy]:
    """Fixed choices that know the event: the two best single models, mixes of three headrooms."""
    value, _, capacity = _worth(study, drift, before=False)
    order = [int(i) for i in np.argsort(-value) if capacity[i] > 0.0][:2]
    names = [model.name for model in study.models]
    singles: dict[str, Policy] = {names[i]: BestSinglePolicy({names[i]: 1.0}) for i in order}
    mixes = {f"mix at {h:.0%}": _static_mix(study, drift, before=False, headroom=h) for h in (0.7, 0.8, 0.9)}
    return {**singles, **mixes}
