"""Every model of the real pool on the project's suites: accuracy with intervals, differences, a plot."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from deployments.evaluation.report import ALL, Cell, Difference, differences, summarise, to_json
from deployments.evaluation.session import Session
from deployments.evaluation.settings import PaceSettings
from scripts.benchmarks.report import Bar, Report, bar
from scripts.benchmarks.serving import served_pool
from serve_app.console.evaluation import DEFAULT_SUITES, evaluate, load_suites, print_report

LOW, HIGH, P = 0.1, 0.95, 0.05  # a model inside these says something; two must differ beyond chance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    served_pool.add_arguments(parser)
    parser.add_argument("--suite", action="append", default=[], type=Path, help="repeat for more")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at once per model (default 4)")
    parser.add_argument("--plot", type=Path, help="write the accuracies here, as PNG")


def run(args: argparse.Namespace) -> Report:
    """What `fastserve evaluate` does, on a pool of its own."""
    suites = load_suites(args.suite or sorted(DEFAULT_SUITES.glob("*.jsonl*")))
    pace = PaceSettings(concurrency=args.concurrency, user_share=1.0)
    with served_pool.serving(args) as pool:
        session = Session(pool.table, pool.url, pool.key, suites, None, pace)
        progress, records = asyncio.run(evaluate(session))
    cells, pairs = summarise(records), differences(records)
    print_report(cells, pairs)
    if args.plot:
        draw(cells, args.plot)
    results = to_json(cells, pairs) | {"resources": session.use.report()}
    left = bar("questions left open", sum(progress.left.values()), "<=", 0)
    return Report("evaluation_pool", (left, *_bars(cells, pairs)), results)


def _bars(cells: Sequence[Cell], pairs: Sequence[Difference]) -> list[Bar]:
    """For each suite: how many pairs of models between LOW and HIGH differ with p below P."""
    accuracy = {(cell.suite, cell.model): cell.accuracy for cell in cells if cell.task == ALL}
    bars = []
    for suite in dict.fromkeys(cell.suite for cell in cells):
        found = [
            pair
            for pair in pairs
            if pair.suite == suite
            and pair.p < P
            and all(LOW <= accuracy[suite, model] <= HIGH for model in (pair.first, pair.second))
        ]
        bars.append(bar(f"{suite}: useful pairs that differ", len(found), ">=", 1))
    return bars


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Accuracy of each model by suite, with 95 % intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    totals = [cell for cell in cells if cell.task == ALL]
    suites = list(dict.fromkeys(cell.suite for cell in totals))
    models = list(dict.fromkeys(cell.model for cell in totals))
    figure, axes = pyplot.subplots(figsize=(1.5 + 2.0 * len(suites), 4.0), layout="constrained")
    width = 0.8 / len(models)
    for place, model in enumerate(models):
        own = {cell.suite: cell for cell in totals if cell.model == model}
        shown = [suite for suite in suites if suite in own]
        x = [suites.index(suite) + (place - (len(models) - 1) / 2) * width for suite in shown]
        y = [own[suite].accuracy for suite in shown]
        below = [own[suite].accuracy - own[suite].low for suite in shown]
        above = [own[suite].high - own[suite].accuracy for suite in shown]
        axes.bar(x, y, width, yerr=[below, above], capsize=3, label=model)
    axes.set_xticks(range(len(suites)), suites)
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy, 95 % interval")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=len(models), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
