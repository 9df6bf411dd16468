"""Ask every model every item of the suites, grade the answers, and write all of it into the table."""

import argparse
import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tqdm import tqdm

from deployments.evaluation.client import EvaluationError
from deployments.evaluation.evaluator import local_key
from deployments.evaluation.report import ALL, Cell, Difference, differences, summarise, to_json
from deployments.evaluation.run import Progress
from deployments.evaluation.session import Session, UnknownModelError
from deployments.evaluation.settings import PaceSettings, suite_path
from deployments.records.records import EvaluationRecord
from deployments.suites.suite import Suite, SuiteError, load_suite
from serve_app.console.connection import CommandError

DEFAULT_SUITES: Final = suite_path("suites")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--suite",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a suite, .jsonl or .jsonl.gz; repeat for more (default: all in suites/)",
    )
    parser.add_argument("--models", metavar="A,B", help="only these models (default: all that can chat)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the report here")
    parser.add_argument("--again", action="store_true", help="ask also what was answered before")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at once per model (default 4)")
    parser.add_argument(
        "--shared-machine",
        action="store_true",
        help="the models share processors: wait while users are at any of them",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the endpoint, without /v1")
    parser.add_argument("--address", default="auto", help="Ray cluster whose table is written")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; 1 where questions had to be left open. The same command resumes them."""
    suites = load_suites(args.suite or sorted(DEFAULT_SUITES.glob("*.jsonl*")))
    try:
        pace = PaceSettings(concurrency=args.concurrency, shared_machine=args.shared_machine)
        key = local_key()
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    models = args.models.split(",") if args.models else None
    try:
        progress, records = _on_ray(args.address, args.url, key, suites, models, pace, args.again)
    except KeyboardInterrupt:
        raise CommandError("Stopped. What was answered is in the table; the same command goes on.") from None
    cells, pairs = summarise(records), differences(records)
    print_report(cells, pairs)
    if args.json:
        args.json.write_text(json.dumps(to_json(cells, pairs), indent=1, ensure_ascii=False) + "\n")
    for model, count in progress.left.items():
        print(f"left open: {count} of '{model}': {progress.reasons.get(model, 'no answer')}")
    return 1 if progress.left else 0


def load_suites(paths: Sequence[Path]) -> list[Suite]:
    """The suites in these files. Raises CommandError that names file and line."""
    if not paths:
        raise CommandError(f"No suite in '{DEFAULT_SUITES}'. Give one with --suite.")
    try:
        suites = [load_suite(path) for path in paths]
    except (SuiteError, OSError) as error:
        raise CommandError(str(error)) from error
    names = [suite.name for suite in suites]
    for name in names:
        if names.count(name) > 1:
            raise CommandError(f"Two suites have the name '{name}': their answers would be mixed up.")
    return suites


def _on_ray(
    address: str,
    url: str,
    key: str,
    suites: Sequence[Suite],
    models: Sequence[str] | None,
    pace: PaceSettings,
    again: bool,
) -> tuple[Progress, list[EvaluationRecord]]:
    import ray

    from deployments.table.actor import NAME, NAMESPACE, RayTable, TableError

    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        table = RayTable(ray.get_actor(NAME, NAMESPACE))
        return asyncio.run(evaluate(Session(table, url, key, suites, models, pace, again)))
    except (ConnectionError, ValueError, TableError, EvaluationError, UnknownModelError) as error:
        raise CommandError(f"No evaluation: {error}") from error
    except ExceptionGroup as group:
        raise CommandError(f"No evaluation: {group.exceptions[0]}") from group
    finally:
        ray.shutdown()


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
    _print(["suite", "task", "items", *models], rows)
    heads = ["suite", "model", "TTFT p50/p95 s", "TPOT p50 s", "e2e p50/p95 s", "tokens in/out", "USD"]
    _print(heads, [_times(cell) for cell in cells if cell.task == ALL])
    heads = ["suite", "models", "items", "difference", "95 %", "p"]
    _print(heads, [_difference(pair) for pair in pairs])


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


def _print(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[i]) for line in (heads, *rows)) for i in range(len(heads))]
    for line in (heads, ["-" * width for width in widths], *rows):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    print()
