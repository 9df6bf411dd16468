"""Calibration of the simulator: fitted on one recorded load, scored on another.

With --pool the loads are recorded on the real pool, one model at a time, in turns, so that both meet the same
machine: Poisson arrivals at 0.3, 0.6 and 0.9 of its capacity to fit on, three times over, at 0.65 with other
lengths to score on. Without it a step-by-step engine stands in.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from policies.simulator.arrivals import poisson, synthetic_trace
from policies.simulator.fit import FITTED, Columns, Served, Times, columns, errors, fit_model, simulate
from policies.simulator.scenario import bursty
from policies.simulator.spec import ModelSpec
from scripts.benchmarks.load.recorded_load import capacity_per_s, planned, record
from scripts.benchmarks.load.step_engine import StepEngine, serve
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving import served_pool
from serve_app.console.text_table import print_table

LIMIT = 0.20
FIT_WORDS, FIT_TOKENS = 40.0, 16.0  # medians
SCORE_WORDS, SCORE_TOKENS = 25.0, 24.0
# A step's cost and that of one more sequence in it are told apart by the batch.
FIT_LOADS = 3 * (0.3, 0.6, 0.9)
SCORE_LOAD = 0.65
APART_S = 60.0  # between turns, as the simulator sees them: long enough to drain
RESAMPLES = 400  # of the turns of the scored load, for the interval of an error
FIELDS = ("model", "arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s")
ENGINES = (
    StepEngine("small", fixed_s=0.009, per_sequence_s=0.0003, per_token_s=1 / 15_000),
    StepEngine("middle"),
    StepEngine("large", fixed_s=0.04, per_sequence_s=0.0012, per_token_s=1 / 2_500, slots=8),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    served_pool.add_arguments(parser)
    parser.add_argument("--pool", action="store_true", help="record both loads on the real pool")
    parser.add_argument(
        "--load-s", type=float, default=60.0, help="with --pool: length of each load (default 60)"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="with --pool: write both loads here, as fit.jsonl and score.jsonl",
    )
    described = "JSONL of answered requests: " + ", ".join(FIELDS)
    parser.add_argument(
        "--fit", type=Path, metavar="FILE", help=f"{described} (default: a step-by-step engine)"
    )
    parser.add_argument("--score", type=Path, metavar="FILE", help="the same of another load")
    parser.add_argument(
        "--slots", type=float, default=16, help="sequences a replica runs at once (default 16)"
    )
    parser.add_argument("--replicas", type=float, default=1, help="replicas of every model (default 1)")


def run(args: argparse.Namespace) -> Report:
    """Fit every model that has enough requests, score it on the other load."""
    if (args.fit is None) != (args.score is None):
        raise SystemExit("--fit and --score go together: two loads, one to fit and one to score.")
    if args.pool:
        with served_pool.serving(args) as pool:
            start, fitted_on, scored_on = asyncio.run(_recorded(pool, args.load_s))
        if args.keep is not None:
            args.keep.mkdir(parents=True, exist_ok=True)
            write_served(args.keep / "fit.jsonl", fitted_on)
            write_served(args.keep / "score.jsonl", scored_on)
    elif args.fit is not None:
        fitted_on, scored_on = read_served(args.fit), read_served(args.score)
        start = {
            s.model: ModelSpec(
                s.model, slots=args.slots, min_replicas=args.replicas, max_replicas=args.replicas
            )
            for s in fitted_on
        }
    else:
        fitted_on, scored_on = _reference_loads()
        start = {engine.name: ModelSpec(engine.name, slots=engine.slots) for engine in ENGINES}
    return _report(start, fitted_on, scored_on)


async def _recorded(
    pool: served_pool.Serving, load_s: float
) -> tuple[dict[str, ModelSpec], list[Served], list[Served]]:
    """Both loads of every model, in turns."""
    models = (await pool.table.snapshot("", 0, 5.0)).models
    start, fit_load, score_load = {}, list[Served](), list[Served]()
    with tqdm(total=2 * len(models) * len(FIT_LOADS), desc="loads") as progress:
        for name, row in sorted(models.items()):
            start[name] = ModelSpec(name, slots=float(max(replica.slots for replica in row.replicas)))
            kinds = [(FIT_WORDS, FIT_TOKENS), (SCORE_WORDS, SCORE_TOKENS)]
            most = [await capacity_per_s(pool.url, pool.key, name, *kind) for kind in kinds]
            for turn, load in enumerate(FIT_LOADS):
                rates = (load * most[0], SCORE_LOAD * most[1])
                for found, kind, rate in zip((fit_load, score_load), kinds, rates, strict=True):
                    number = int(progress.n)
                    times = poisson(
                        rate, max(int(rate * load_s / len(FIT_LOADS)), 1), np.random.default_rng(number)
                    )
                    served = await record(pool.url, pool.key, name, planned(times, *kind, number))
                    began_s = turn * (load_s / len(FIT_LOADS) + APART_S)
                    found += [replace(one, arrival_s=one.arrival_s + began_s) for one in served]
                    progress.update()
    return start, fit_load, score_load


def read_served(path: Path) -> list[Served]:
    """The lines of a recorded load. Raises ValueError naming the line that is not a request."""
    served = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            served.append(Served(**{name: record[name] for name in FIELDS}))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{path.name}', line {number}: {error}; needs {', '.join(FIELDS)}.") from error
    return served


def write_served(path: Path, served: Sequence[Served]) -> None:
    """What `read_served` reads."""
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in served), encoding="utf-8")


def _reference_loads() -> tuple[list[Served], list[Served]]:
    """Poisson at 0.6 of capacity to fit on; Gamma bursts at 0.75 with other lengths to score on."""
    fit_load: list[Served] = []
    score_load: list[Served] = []
    for i, engine in enumerate(ENGINES):
        output, prompt = 200.0, 1000.0
        step = engine.fixed_s + engine.slots * engine.per_sequence_s
        capacity = 1.0 / (output * step / engine.slots + prompt * engine.per_token_s)
        fit_load += serve(engine, synthetic_trace(600, i).at_rate(0.6 * capacity), seed=i)
        other = synthetic_trace(600, 100 + i)
        times = bursty(other, 0.75 * capacity, np.random.default_rng(i))
        score_load += serve(engine, other.at_times(times), seed=50 + i)
    return fit_load, score_load


def _report(start: dict[str, ModelSpec], fitted_on: Sequence[Served], scored_on: Sequence[Served]) -> Report:
    rows, bars, results = [], [], {}
    for name, spec in sorted(start.items()):
        fitted = fit_model(spec, fitted_on)
        inside, _ = _errors(fitted, columns(fitted_on, name))
        outside, spreads = _errors(fitted, columns(scored_on, name))
        found = {field: getattr(fitted, field) for field in FITTED}
        rows.append((name, *found.values(), *(100 * error for error in outside.values())))
        bars += [
            bar(f"{name}: error of {what}", abs(error), "<=", LIMIT, spreads[what])
            for what, error in outside.items()
        ]
        results[name] = {"parameters": found, "fit": inside, "score": outside}
    headers = ("model", *FITTED)
    print_table(
        (*headers, *(f"{what} error %" for what in ("ttft_p50", "ttft_p95", "e2e_p50", "e2e_p95"))), rows
    )
    return Report("calibration", tuple(bars), results)


def _errors(spec: ModelSpec, data: Columns) -> tuple[dict[str, float], dict[str, float]]:
    """Errors of a load and the half-widths of their 95 % intervals, over resampled turns of it."""
    simulated, measured = simulate(spec, data), (data.ttft_s, data.e2e_s)
    turns = np.array_split(np.arange(len(data.arrival_s)), len(FIT_LOADS))
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([turns[turn] for turn in generator.integers(len(turns), size=len(turns))])
        drawn.append(list(errors(_taken(simulated, rows), _taken(measured, rows)).values()))
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    found = errors(simulated, measured)
    return found, dict(zip(found, ((high - low) / 2).tolist(), strict=True))


def _taken(times: Times, rows: npt.NDArray[np.intp]) -> Times:
    return times[0][rows], times[1][rows]
