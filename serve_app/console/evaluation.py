"""An evaluation asked for at the terminal: the suites, the run under a progress bar, and its tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tqdm import tqdm

from deployments.evaluation.report import ALL, Cell, Difference
from deployments.evaluation.run import Progress
from deployments.evaluation.session import Session
from deployments.records.records import EvaluationRecord
from deployments.shipped import found
from deployments.suites.suite import Suite, SuiteError, load_suite
from serve_app.console.errors import CommandError
from serve_app.console.text_table import print_table

DEFAULT_SUITES: Final = found("suites")


def load_suites(paths: Sequence[Path]) -> list[Suite]:
    """The suites in these files, or in shipped ones. Raises CommandError that names file and line."""
    if not paths:
        raise CommandError(f"No suite in '{DEFAULT_SUITES}'. Give one with --suite.")
    try:
        suites = [load_suite(found(str(path))) for path in paths]
    except (SuiteError, OSError) as error:
        raise CommandError(str(error)) from error
    names = [suite.name for suite in suites]
    for name in names:
        if names.count(name) > 1:
            raise CommandError(f"Two suites have the name '{name}': their answers would be mixed up.")
    return suites


async def evaluate(session: Session) -> tuple[Progress, list[EvaluationRecord]]:
    """Run a session under a progress bar."""
    with tqdm(desc="evaluate", unit="item") as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.planned
            waiting = ", ".join(f"{model}: {why}" for model, why in progress.reasons.items())
            bar.set_postfix_str(waiting[:60], refresh=False)
            bar.update(progress.done - bar.n)

        return await session.run(show)


def print_report(cells: Iterable[Cell], pairs: Iterable[Difference]) -> None:
    """Accuracy by task and model with its 95 % interval, then latency, tokens, cost, then differences."""
    cells = list(cells)
    models = sorted({cell.model for cell in cells})
    tasks = list(dict.fromkeys((cell.suite, cell.task) for cell in cells))
    by_place = {(cell.suite, cell.task, cell.model): cell for cell in cells}
    rows = []
    for suite, task in tasks:
        found = [by_place.get((suite, task, model)) for model in models]
        most = max(cell.items for cell in found if cell is not None)
        rows.append([suite, task, str(most), *("" if cell is None else _accuracy(cell) for cell in found)])
    print_table(["suite", "task", "items", *models], rows)
    heads = ["suite", "model", "TTFT p50/p95 s", "TPOT p50 s", "e2e p50/p95 s", "tokens in/out", "USD"]
    print_table(heads, [_times(cell) for cell in cells if cell.task == ALL])
    heads = ["suite", "models", "items", "difference", "95 %", "p"]
    print_table(heads, [_difference(pair) for pair in pairs])


def _accuracy(cell: Cell) -> str:
    squared = f" mse {cell.squared_error:.3g}" if cell.numbers else ""
    return f"{cell.accuracy:.2f} [{cell.low:.2f}, {cell.high:.2f}]{squared}"


def _times(cell: Cell) -> list[str]:
    return [
        cell.suite,
        cell.model,
        f"{cell.ttft_p50_s:.3f}/{cell.ttft_p95_s:.3f}",
        f"{cell.tpot_p50_s:.4f}",
        f"{cell.e2e_p50_s:.3f}/{cell.e2e_p95_s:.3f}",
        f"{cell.prompt_tokens}/{cell.output_tokens}",
        f"{cell.cost_usd:.4g}",
    ]


def _difference(pair: Difference) -> list[str]:
    names = f"{pair.first} - {pair.second}"
    interval = f"[{pair.low:+.2f}, {pair.high:+.2f}]"
    return [pair.suite, names, str(pair.items), f"{pair.difference:+.2f}", interval, f"{pair.p:.2g}"]
