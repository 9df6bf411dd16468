"""Ask every model every item of the suites, grade the answers, and write all of it into the table."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serve_app.console import options
from serve_app.console.errors import FAILED, CommandError

if TYPE_CHECKING:
    from deployments.evaluation.run import Progress
    from deployments.evaluation.settings import PaceSettings
    from deployments.records.records import EvaluationRecord
    from deployments.suites.suite import Suite
    from deployments.table.api import TableApi


@click.command(help=f"{__doc__}\n\nGraded answers are stored: the same command continues an interrupted run.")
@click.option(
    "--suite",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="a suite, .jsonl or .jsonl.gz; repeat for more (default: all in suites/)",
)
@click.option("--models", metavar="A,B", help="only these models (default: all that can chat)")
@click.option("--again", is_flag=True, help="repeat questions that were answered before")
@click.option("--concurrency", type=int, default=4, show_default=True, help="requests at once per model")
@click.option(
    "--shared-machine",
    is_flag=True,
    help="the models share processors: wait while any of them serves users",
)
@click.option("--url", help="the endpoint, without /v1 (default: any ingress replica that is alive)")
@options.address
@options.as_json
def command(
    files: tuple[Path, ...],
    models: str | None,
    again: bool,
    concurrency: int,
    shared_machine: bool,
    url: str | None,
    address: str,
    as_json: bool,
) -> int:
    """Evaluate and print; 1 where questions had to be left open."""
    from deployments.evaluation.settings import PaceSettings
    from serve_app.console.evaluation import DEFAULT_SUITES, load_suites

    suites = load_suites(files or sorted(DEFAULT_SUITES.glob("*.jsonl*")))
    try:
        pace = PaceSettings(concurrency=concurrency, shared_machine=shared_machine)
    except ValueError as error:
        raise CommandError(str(error)) from error
    wanted = models.split(",") if models else None
    try:
        progress, records = _on_ray(address, url, suites, wanted, pace, again)
    except KeyboardInterrupt:
        raise CommandError("Stopped. What was answered is in the table; the same command goes on.") from None
    _report(records, as_json)
    for model, count in progress.left.items():
        click.echo(
            f"left open: {count} of '{model}': {progress.reasons.get(model, 'no answer')}", err=as_json
        )
    return FAILED if progress.left else 0


def _on_ray(
    address: str,
    url: str | None,
    suites: "list[Suite]",
    models: list[str] | None,
    pace: "PaceSettings",
    again: bool,
) -> "tuple[Progress, list[EvaluationRecord]]":
    from serve_app.console.connection import connected

    with connected(address) as table:
        return _evaluate(table, url, suites, models, pace, again)


def _evaluate(
    table: "TableApi",
    url: str | None,
    suites: "list[Suite]",
    models: list[str] | None,
    pace: "PaceSettings",
    again: bool,
) -> "tuple[Progress, list[EvaluationRecord]]":
    from deployments.evaluation.client import EvaluationError
    from deployments.evaluation.session import Session, UnknownModelError
    from deployments.keys.internal import internal_credential
    from serve_app.console.evaluation import evaluate

    async def run() -> "tuple[Progress, list[EvaluationRecord]]":
        key = internal_credential(await table.secret())
        return await evaluate(Session(table, url, key, suites, models, pace, again))

    try:
        return asyncio.run(run())
    except (EvaluationError, UnknownModelError) as error:
        raise CommandError(f"No evaluation: {error}") from error
    except ExceptionGroup as group:
        raise CommandError(f"No evaluation: {group.exceptions[0]}") from group


def _report(records: "list[EvaluationRecord]", as_json: bool) -> None:
    from deployments.evaluation.report import differences, summarise, to_json
    from serve_app.console.evaluation import print_report

    cells, pairs = summarise(records), differences(records)
    if as_json:
        print(json.dumps(to_json(cells, pairs), indent=1, ensure_ascii=False))
    else:
        print_report(cells, pairs)
