"""The conformal floor under single answers: is the share below it at most alpha, and what does it cost?

Each split fits the quality model on one part, which sets the threshold from its own held-out answers, and
looks at the other part. Of the models that are let through the cheapest is taken, the least careful policy
there is. Data without costs gets the prices of the load benchmarks, by the models' mean scores.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from policies.arrays import F64
from policies.quality.conformal import lowest_allowed
from policies.quality.data import QualityData
from policies.quality.training import fit
from scripts.benchmarks.load.jobs import run_all
from scripts.benchmarks.quality.data import Scored, read
from scripts.benchmarks.report import Bar, Report, bar, interval
from serve_app.console.text_table import print_table

ALPHAS: Final = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="scored prompts, .jsonl.gz")
    parser.add_argument("--floor", type=float, default=0.5)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument(
        "--prompts", type=int, default=1_000, help="to fit on in a split, at most half of all"
    )
    parser.add_argument("--processes", type=int, default=2)


@dataclass(frozen=True, slots=True)
class Split:
    """One split of one file."""

    path: Path
    seed: int


def _prices(data: Scored) -> F64:
    """[N, M] what each answer costs."""
    if data.priced:
        return data.costs
    rank = np.argsort(np.argsort(np.nanmean(data.scores, axis=0))) / max(len(data.models) - 1, 1)
    return np.tile(20.0**rank, (len(data), 1))


def _one(floor: float, prompts: int, split: Split) -> dict[float, dict[str, float]]:
    """By alpha: share of answers below the floor, cost over that of the best single model, reachability."""
    data = read(split.path)
    order = np.random.default_rng([split.seed, 51]).permutation(len(data))
    size = min(prompts, len(data) // 2)
    train, test = data.take(order[:size]), data.take(order[size : size + 4 * prompts])
    model = fit(QualityData.full(train.features, train.models, train.scores), now_s=0.0)
    predicted = np.array([model.predict(one, test.models)[0] for one in test.features])
    prices, rows = _prices(test), np.arange(len(test))
    best = int(np.nanmean(train.scores, axis=0).argmax())
    found = {}
    for alpha in ALPHAS:
        least = model.least_prediction(test.models, floor, alpha)
        assert least is not None
        allowed = predicted >= least
        cheapest = np.where(allowed, prices, np.inf).argmin(axis=1)
        chosen = np.where(allowed.any(axis=1), cheapest, predicted.argmax(axis=1))
        lowest = lowest_allowed(predicted, least)
        found[alpha] = {
            "below": float((test.scores[rows, chosen] < floor).mean()),
            "lowest_below": float((test.scores[rows, lowest] < floor).mean()),
            "cost": float(prices[rows, chosen].mean() / prices[:, best].mean()),
            "reachable": float(np.isfinite(least)),
        }
    return found


def run(args: argparse.Namespace) -> Report:
    """All splits of all files."""
    splits = [Split(path, seed) for path in args.data for seed in range(args.splits)]
    work = partial(_one, args.floor, args.prompts)
    found: dict[str, list[Mapping[float, Mapping[str, float]]]] = {}
    for split, one in zip(splits, run_all(work, splits, args.processes, "splits"), strict=True):
        found.setdefault(split.path.name.split(".")[0], []).append(one)
    cells = [_cell(name, alpha, results) for name, results in found.items() for alpha in ALPHAS]
    columns = ("data", "alpha", "reachable", "below", "below_spread", "cost")
    print_table(columns, [tuple(cell[column] for column in columns) for cell in cells])
    bars = tuple(one for cell in cells if cell["reachable"] == 1.0 for one in _bars(cell))
    about = {"floor": args.floor, "splits": args.splits, "prompts": args.prompts}
    return Report("floor", bars, {**about, "cells": cells})


def _cell(name: str, alpha: float, results: list[Mapping[float, Mapping[str, float]]]) -> dict[str, Any]:
    """Means over the splits."""
    cell: dict[str, Any] = {"data": name, "alpha": alpha}
    for quantity in ("below", "lowest_below", "cost", "reachable"):
        cell[quantity], cell[f"{quantity}_spread"] = interval(one[alpha][quantity] for one in results)
    return cell


def _bars(cell: Mapping[str, Any]) -> tuple[Bar, Bar]:
    """Held within the interval, and cheaper than always the best single model."""
    name, alpha, spread = f"{cell['data']}, alpha {cell['alpha']:g}", cell["alpha"], cell["below_spread"]
    return (
        bar(f"{name}: share below the floor", cell["below"], "<=", alpha + spread, spread),
        bar(f"{name}: cost over the best model's", cell["cost"], "<=", 1.0, cell["cost_spread"]),
    )
