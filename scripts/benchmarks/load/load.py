"""Dispatch under load: baselines, the learned policy and clairvoyant ones on the same replayed requests.

Beside them stands an upper bound that no dispatch exceeds (scripts.benchmarks.load.relaxation).
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from policies.arrays import F64
from policies.learned.features import CALLER_FEATURES
from policies.simulator.replay import Requests
from policies.simulator.scenario import BURST_CV, SQUARE_HIGH, SQUARE_LOW, STANDARD, Scenario
from policies.training.ppo import PPOConfig
from policies.training.trainer import UNVARIED, TrainingConfig
from scripts.benchmarks.load.dispatchers import baselines, clairvoyants
from scripts.benchmarks.load.jobs import (
    FORMULA,
    PRICED,
    Replay,
    Trained,
    Training,
    run_all,
    run_replay,
    run_training,
)
from scripts.benchmarks.load.learning_curve import draw
from scripts.benchmarks.load.pool import CALLER, DEADLINE_S, TARGET_S
from scripts.benchmarks.load.relaxation import upper_bound
from scripts.benchmarks.load.replay import blocks, summarise
from scripts.benchmarks.load.study import Study, make_study
from scripts.benchmarks.report import Bar, Report, bar, interval
from serve_app.console.text_table import print_table

LEARNED = "learned (PPO)"
BLOCKS = 10  # paired blocks per replay
ABOVE_RULE = 4  # scenarios of seven in which the learned policy has to be above the priced rule
TRAINING_LIMIT_S = 20 * 60
ABLATIONS = ("no live load", "discount 0", "credit by returns", "no caller weights")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is run: decisions per training, requests per tuning and scoring replay, scoring seeds."""

    decisions: int
    tuning: int
    scoring: int
    seeds: int


FULL = Effort(decisions=250_000, tuning=400, scoring=2_000, seeds=5)
QUICK = Effort(decisions=20_000, tuning=120, scoring=400, seeds=2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--arrivals", type=Path, help="CSV: arrival_s, prompt_tokens, output_tokens (default: synthetic)"
    )
    parser.add_argument("--quality", type=Path, help="JSONL: prompt, task, scores (default: synthetic)")
    parser.add_argument(
        "--seeds", type=int, default=5, help="training seeds of the learning curve (default 5)"
    )
    parser.add_argument("--decisions", type=int, help="decisions per training")
    parser.add_argument("--processes", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--policy-out", type=Path, help="write the learned policy's checkpoint here")
    parser.add_argument("--curve", type=Path, help="write the learning curves here, as PNG")
    parser.add_argument("--keep", type=Path, help="folder of finished jobs: a second run goes on from there")
    parser.add_argument("--quick", action="store_true", help="a few minutes of it, to see that it runs")


def run(args: argparse.Namespace) -> Report:
    """Tune and train on the first stretch of the trace and of the prompts, score on the others."""
    effort = QUICK if args.quick else FULL
    if args.decisions:
        effort = replace(effort, decisions=args.decisions)
    study = make_study(args.arrivals, args.quality)
    _describe(study)
    run_jobs = partial(run_all, processes=args.processes, keep=args.keep)
    trained = run_jobs(partial(run_training, study), _trainings(effort, args.seeds), title="train")
    tuned = _tune(study, effort, run_jobs)
    scored = _score(study, effort, tuned, trained, run_jobs)
    bounds = _bounds(study, effort, run_jobs)
    if args.curve:
        draw([run for run in trained if run.name == LEARNED], args.curve)
    if args.policy_out:
        args.policy_out.write_bytes(trained[0].policy)
    return _report(study, effort, tuned, trained, scored, bounds)


def _describe(study: Study) -> None:
    rows = [
        (
            m.name,
            m.step_base_s * 1e3,
            m.prefill_tokens_per_s,
            m.slots,
            float(study.table.score[study.train_rows, i].mean()),
        )
        for i, m in enumerate(study.models)
    ]
    title = f"Pool: capacity {study.capacity:.2f} requests/s, where the static best mix fills every model"
    print_table(("model", "step ms", "prefill tok/s", "slots", "mean score"), rows, title)
    print(f"utility = {CALLER[0]} score - {CALLER[1]} lateness - {CALLER[2]} cost share; target {TARGET_S} s")


def _trainings(effort: Effort, seeds: int) -> list[Training]:
    config = TrainingConfig(decisions=effort.decisions)
    learned = [Training(LEARNED, replace(config, seed=seed)) for seed in range(seeds)]
    return [
        *learned,
        Training("no live load", config, blind=True),
        Training("discount 0", replace(config, ppo=PPOConfig(horizon_s=0.0))),
        Training("credit by returns", replace(config, ppo=PPOConfig(credit="returns"))),
        Training("no caller weights", replace(config, drop=UNVARIED + CALLER_FEATURES)),
    ]


RunJobs = Callable[..., list[Any]]  # run_all with its processes and its folder
Tuned = dict[tuple[str, str], str]  # (dispatcher, scenario) -> its best configuration on the training stretch


def _tune(study: Study, effort: Effort, run_jobs: RunJobs) -> Tuned:
    """Every configuration of every baseline on the training stretch of every scenario."""
    jobs = [
        Replay(dispatcher.name, label, scenario, seed=0, train=True, requests=effort.tuning)
        for dispatcher in baselines(study)
        for label in dispatcher.configurations
        for scenario in STANDARD
    ]
    utility = run_jobs(partial(_mean_utility, study), jobs, title="tune")
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for job, value in zip(jobs, utility, strict=True):
        key = job.dispatcher, job.scenario.name
        best[key] = max(best.get(key, (-np.inf, "")), (value, job.configuration))
    return {key: label for key, (_, label) in best.items()}


def _mean_utility(study: Study, job: Replay) -> float:
    return float(run_replay(study, job)["reward"].mean())


Scored = dict[tuple[str, str], list[Requests]]  # (dispatcher, scenario) -> one replay per seed


def _score(
    study: Study, effort: Effort, tuned: Tuned, trained: Sequence[Trained], run_jobs: RunJobs
) -> Scored:
    """A clairvoyant dispatcher is scored at every price and keeps the best: it is no rival."""
    jobs = []
    for scenario in STANDARD:
        for seed in range(effort.seeds):
            common = Replay(FORMULA, "", scenario, seed, train=False, requests=effort.scoring)
            jobs += [common, replace(common, dispatcher=PRICED)]
            rivals = [(name, label) for (name, where), label in tuned.items() if where == scenario.name]
            rivals += [(one.name, label) for one in clairvoyants() for label in one.configurations]
            jobs += [replace(common, dispatcher=name, configuration=label) for name, label in rivals]
            for run in trained:
                # Scoring seed s meets training seed s: the interval holds both sources of chance.
                if run.name != LEARNED or run.seed == seed % _seeds(trained):
                    blind = run.name == "no live load"
                    jobs.append(replace(common, dispatcher=run.name, policy=run.policy, blind=blind))
    found: dict[tuple[str, str], dict[str, list[Requests]]] = {}
    replays: list[Requests] = run_jobs(partial(run_replay, study), jobs, title="score")
    for job, requests in zip(jobs, replays, strict=True):
        configurations = found.setdefault((job.dispatcher, job.scenario.name), {})
        configurations.setdefault(job.configuration, []).append(requests)
    return {key: max(configurations.values(), key=_mean_reward) for key, configurations in found.items()}


Bounds = dict[str, float]  # scenario -> mean of the upper bounds of the scored episodes


def _bounds(study: Study, effort: Effort, run_jobs: RunJobs) -> Bounds:
    jobs = [
        Replay("", "", scenario, seed, train=False, requests=effort.scoring)
        for scenario in STANDARD
        for seed in range(effort.seeds)
    ]
    values = run_jobs(partial(_bound, study), jobs, title="bound")
    means = np.reshape(values, (len(STANDARD), effort.seeds)).mean(axis=1)
    return {scenario.name: float(mean) for scenario, mean in zip(STANDARD, means, strict=True)}


def _bound(study: Study, job: Replay) -> float:
    return upper_bound(study, study.episode(job.scenario, job.seed, train=job.train, requests=job.requests))


def _mean_reward(replays: Sequence[Requests]) -> float:
    return float(np.mean([requests["reward"].mean() for requests in replays]))


def _seeds(trained: Sequence[Trained]) -> int:
    return sum(run.name == LEARNED for run in trained)


def _blocks(replays: Sequence[Requests]) -> F64:
    return np.concatenate([blocks(requests, BLOCKS) for requests in replays])


def _gain(scored: Scored, one: str, other: str, scenario: str) -> tuple[float, float]:
    """Mean and 95 % half-width of the paired difference in utility per request."""
    return interval(_blocks(scored[one, scenario]) - _blocks(scored[other, scenario]))


@dataclass(frozen=True, slots=True)
class Verdict:
    """One scenario's comparison with the priced rule and with the best baseline of the scored stretch."""

    scenario: str
    over_rule: float
    over_rule_spread: float
    best: str
    gain: float
    spread: float
    bound: float
    closed: float  # share of the way from the best baseline to the bound, never above 1


def _verdict(scored: Scored, names: Sequence[str], scenario: Scenario, bound: float) -> Verdict:
    best = max(names, key=lambda name: float(_blocks(scored[name, scenario.name]).mean()))
    gain, spread = _gain(scored, LEARNED, best, scenario.name)
    rival = float(_blocks(scored[best, scenario.name]).mean())
    over_rule = _gain(scored, LEARNED, PRICED, scenario.name)
    return Verdict(scenario.name, *over_rule, best, gain, spread, bound, gain / (bound - rival))


def _report(
    study: Study, effort: Effort, tuned: Tuned, trained: Sequence[Trained], scored: Scored, bounds: Bounds
) -> Report:
    names = [FORMULA, PRICED, *(dispatcher.name for dispatcher in baselines(study))]
    verdicts = [_verdict(scored, names, scenario, bounds[scenario.name]) for scenario in STANDARD]
    worth = {name: _gain(scored, name, PRICED, "overload 1.5") for name in (LEARNED, *ABLATIONS)}
    _print(scored, verdicts, worth)
    seconds = max(run.seconds for run in trained)
    bars: list[Bar] = [
        bar(f"{v.scenario}: gain over {v.best}", v.gain, ">=", -v.spread, v.spread) for v in verdicts
    ]
    bars += [
        bar(
            f"{v.scenario}: gain over the priced rule",
            v.over_rule,
            ">=",
            -v.over_rule_spread,
            v.over_rule_spread,
        )
        for v in verdicts
    ]
    above = sum(v.over_rule > v.over_rule_spread for v in verdicts)
    bars.append(bar("scenarios strictly above the priced rule", above, ">=", ABOVE_RULE))
    bars.append(bar("largest share of the gap closed", max(v.closed for v in verdicts), "<=", 1.0))
    bars.append(bar("training, seconds", seconds, "<=", TRAINING_LIMIT_S))
    return Report("load", tuple(bars), _results(study, effort, tuned, trained, scored, verdicts, worth))


def _print(scored: Scored, verdicts: Sequence[Verdict], worth: dict[str, tuple[float, float]]) -> None:
    for scenario in STANDARD:
        rows = []
        for (name, where), replays in scored.items():
            if where == scenario.name:
                mean, spread = interval(_blocks(replays))
                s = summarise(np.concatenate(replays), TARGET_S)
                rows.append(
                    (name, mean, spread, s.accuracy, s.in_target, s.p95_ttft_s, s.cost_usd * 1e3, s.lost)
                )
        rows.sort(key=lambda row: -row[1])
        print_table(
            ("dispatcher", "utility", "± 95 %", "accuracy", "in target", "p95 TTFT s", "$/1000", "lost"),
            rows, f"{scenario.name}: {scenario.load} times capacity",
        )  # fmt: skip
    print_table(
        ("scenario", "over rule", "± 95 %", "best baseline", "gain", "± 95 %", "bound", "closed"),
        [tuple(asdict(verdict).values()) for verdict in verdicts], "learned against the best baseline",
    )  # fmt: skip
    print_table(
        ("policy", "gain over g = 0", "± 95 %"),
        [(PRICED + ", no residual", 0.0, 0.0), *((name, *gain) for name, gain in worth.items())],
        "overload 1.5: what the residual is worth",
    )


def _results(
    study: Study,
    effort: Effort,
    tuned: Tuned,
    trained: Sequence[Trained],
    scored: Scored,
    verdicts: Sequence[Verdict],
    worth: dict[str, tuple[float, float]],
) -> dict[str, object]:
    table = {
        scenario.name: {
            name: asdict(summarise(np.concatenate(replays), TARGET_S))
            | {"utility_interval": interval(_blocks(replays))}
            for (name, where), replays in scored.items()
            if where == scenario.name
        }
        for scenario in STANDARD
    }
    return {
        "capacity_per_s": study.capacity,
        "utility": {"accuracy": CALLER[0], "lateness": CALLER[1], "cost": CALLER[2], "target_s": TARGET_S,
                    "deadline_s": DEADLINE_S, "cost_scale_usd": study.cost_scale_usd},
        "scenarios": {"burst_cv": BURST_CV, "square": [SQUARE_LOW, SQUARE_HIGH]},
        "effort": asdict(effort),
        "table": table,
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "gain_over_priced_rule_at_overload": worth,
        "configurations": {f"{name} | {scenario}": label for (name, scenario), label in tuned.items()},
        "training_s": {f"{run.name} {run.seed}": run.seconds for run in trained},
    }  # fmt: skip
