"""How well the dispatch chooses by predicted quality alone: k-fold, train and test, strong or weak, bandit.

The data is one JSON object a line: `prompt`, `task`, `scores` {model: number in [0, 1]}, and where known
`costs` {model: USD}. Nothing is tuned on scored rows: every setting is the product's default.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from scripts.benchmarks.quality.bandit import PUBLISHED, bandit, full_budgets, published_budgets
from scripts.benchmarks.quality.data import Scored, read
from scripts.benchmarks.quality.protocols import apgr, full, kfold
from scripts.benchmarks.report import Bar, Report, bar
from serve_app.console.text_table import print_table

KFOLD_BARS: Final = {"llmrouter9": 0.662}
APGR_BARS: Final = {"routellm_mmlu": 0.625}
_BANDIT_SLACK: Final = {"published": 0.002, "static_mix": 0.003}
_FULL_SLACK: Final = 0.001


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", type=Path, required=True, help="scored prompts, .jsonl or .jsonl.gz")
    parser.add_argument("--train", type=Path, help="prompts to learn from (full, bandit)")
    parser.add_argument("--protocol", choices=("kfold", "full", "apgr", "bandit"), default="kfold")
    parser.add_argument("--models", help="only these models, comma-separated")
    parser.add_argument("--labels", type=int, default=1500, help="prompts to fit on (apgr)")
    parser.add_argument("--seeds", type=int, help="repetitions (default 1, apgr 8, bandit 20)")
    parser.add_argument(
        "--budgets", type=int, default=7, help="budgets over the models' costs (full, bandit)"
    )
    parser.add_argument(
        "--paretobandit-venv", type=Path, help="environment to run the paretobandit package in (bandit)"
    )


def run(args: argparse.Namespace) -> Report:
    """Run one protocol on one file."""
    models = [model.strip() for model in args.models.split(",")] if args.models else None
    data = read(args.data, models)
    if len(data) < 4 or len(data.models) < 2:
        raise SystemExit(
            f"'{args.data.name}': {len(data)} prompts of {len(data.models)} models, 4 of 2 needed."
        )
    if args.protocol == "kfold":
        results = kfold(data, args.seeds or 1)
        bars = _mean_bars(data, results["scores"], KFOLD_BARS)
    elif args.protocol == "apgr":
        results = apgr(data, args.labels, args.seeds or 8)
        bars = _mean_bars(data, results["apgr"], APGR_BARS)
    else:
        results, bars = _two_files(args, data)
    about = {"prompts": len(data), "models": list(data.models), "protocol": args.protocol}
    return Report(f"quality {data.name} {args.protocol}", bars, {**about, **results})


def _two_files(args: argparse.Namespace, data: Scored) -> tuple[dict[str, object], tuple[Bar, ...]]:
    if args.train is None:
        raise SystemExit(f"--protocol {args.protocol} needs --train.")
    train = read(args.train, data.models)
    priced = train.priced and data.priced
    if args.protocol == "bandit":
        venv = args.paretobandit_venv if priced else None
        results = bandit(train, data, args.budgets if priced else 0, args.seeds or 20, venv)
        return results, _bandit_bars(train, results, args.budgets) if priced else ()
    results = full(train, data)
    bars: tuple[Bar, ...] = ()
    _show(results["scores"])
    if priced:
        results["budgets"] = full_budgets(train, data, args.budgets)
        bars = _full_bars(train, results["budgets"], args.budgets)
    return results, bars


def _mean_bars(data: Scored, values: Any, limits: Mapping[str, float]) -> tuple[Bar, ...]:
    _show(values)
    own = values["ours"]
    if data.name not in limits:
        return ()
    return (bar(f"{data.name}: ours", own["mean"], ">=", limits[data.name], own["interval"]),)


def _show(values: Any) -> None:
    rows = sorted(((name, v["mean"], v["interval"]) for name, v in values.items()), key=lambda row: -row[1])
    print_table(("router", "mean", "± 95 %"), rows)


def _bandit_bars(train: Scored, results: Any, budgets: int) -> tuple[Bar, ...]:
    bars = []
    published = published_budgets(train, budgets)
    for i, row in enumerate(results["budgets"]):
        own, mix = row["ours"], row["static_mix"]
        label = f"{row['budget_usd']:.2g} USD"
        bars.append(bar(f"{label}: cost / budget", own["cost_usd"] / row["budget_usd"], "<=", 1.0))
        mixed = mix["reward"] - _BANDIT_SLACK["static_mix"]
        bars.append(bar(f"{label}: reward, static mix", own["reward"], ">=", mixed, own["interval"]))
        if published:
            limit = PUBLISHED[i].bandit - _BANDIT_SLACK["published"]
            bars.append(bar(f"{label}: reward, published", own["reward"], ">=", limit, own["interval"]))
    return tuple(bars)


def _full_bars(train: Scored, rows: Any, budgets: int) -> tuple[Bar, ...]:
    bars = []
    published = published_budgets(train, budgets)
    for i, row in enumerate(rows):
        own = row["ours"]
        label = f"{row['budget_usd']:.2g} USD"
        bars.append(bar(f"{label}: cost / budget", own["cost_usd"] / row["budget_usd"], "<=", 1.0))
        if published:
            limit = PUBLISHED[i].ridge - _FULL_SLACK
            bars.append(bar(f"{label}: reward, ridge", own["reward"], ">=", limit, own["interval"]))
    return tuple(bars)
