"""How well the length of an answer is foreseen: what predicted latency and cost of a prompt rest on.

Data as for `quality`; where a file knows no answer lengths, costs stand for them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from policies.arrays import F64
from policies.latency.fit import fit_length
from policies.latency.model import length_inputs
from policies.prompt.style import STYLE_SIZE
from scripts.benchmarks.load.study import LENGTH_SKILL
from scripts.benchmarks.quality.data import Scored, read
from scripts.benchmarks.report import Report, bar, interval
from serve_app.console.text_table import print_table

FOLDS: Final = 5
BARS: Final = {"paretobandit_val", "paretobandit_test"}  # of many tasks, as traffic is
_MEDIAN: Final = 100.0  # tokens that the median cost stands for

Predictor = Callable[[F64, F64, F64], F64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="scored prompts with lengths")
    parser.add_argument("--models", type=int, default=7, help="at most so many, evenly by name")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of the folds")


def run(args: argparse.Namespace) -> Report:
    """Correlation of predicted and real log length, by file, predictor and model."""
    results, bars, rows = {}, [], []
    for path in args.data:
        data = read(path)
        models = np.unique(np.linspace(0, len(data.models) - 1, args.models).round().astype(int))
        lengths = _lengths(data)[:, models]
        found = {name: _skills(data, lengths, predict, args.seeds) for name, predict in PREDICTORS.items()}
        summary = {
            name: dict(zip(("mean", "interval"), interval(v), strict=True)) for name, v in found.items()
        }
        results[data.name] = {
            "prompts": len(data), "models": [data.models[m] for m in models], "correlation": summary,
        }  # fmt: skip
        rows += [(data.name, name, value["mean"], value["interval"]) for name, value in summary.items()]
        if data.name in BARS:
            served = summary["served"]
            bars.append(
                bar(f"{data.name}: correlation", served["mean"], ">=", LENGTH_SKILL, served["interval"])
            )
    print_table(("data", "predictor", "correlation", "± 95 %"), rows)
    return Report("answer_length", tuple(bars), results)


def _lengths(data: Scored) -> F64:
    """[N, M] tokens of the answers, or costs of which the median counts as a hundred tokens."""
    if data.priced:
        return np.asarray(data.costs * (_MEDIAN / np.nanmedian(data.costs, axis=0)))
    if data.output_tokens is None or not np.isfinite(data.output_tokens).any():
        raise SystemExit(f"'{data.name}' holds neither 'output_tokens' nor 'costs'.")
    return data.output_tokens


def _skills(data: Scored, lengths: F64, predict: Predictor, seeds: int) -> list[float]:
    """Correlation of logs for each model and repetition, over all held-out prompts."""
    inputs = np.stack([length_inputs(prompt.dense, prompt.style) for prompt in data.features])
    logs = np.log1p(lengths)
    found = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(data))
        said = np.empty_like(logs)
        for rows in np.array_split(order, FOLDS):
            train = np.setdiff1d(order, rows)
            for m in range(logs.shape[1]):
                some = train[np.isfinite(lengths[train, m])]
                said[rows, m] = predict(inputs[some], lengths[some, m], inputs[rows])
        for m in range(logs.shape[1]):
            known = np.isfinite(logs[:, m])
            found.append(float(np.corrcoef(said[known, m], logs[known, m])[0, 1]))
    return found


def _served(inputs: F64, lengths: F64, asked: F64) -> F64:
    """As the latency model predicts it."""
    return asked @ np.array(fit_length(inputs, lengths))


def _fields_only(inputs: F64, lengths: F64, asked: F64) -> F64:
    """The same without the prompt's style."""
    return _served(inputs[:, :-STYLE_SIZE], lengths, asked[:, :-STYLE_SIZE])


PREDICTORS: Final[dict[str, Predictor]] = {"served": _served, "prompt fields only": _fields_only}
