"""Say whether the cluster is well: applications, models, policy, table and store."""

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from serve_app.console import options
from serve_app.console.errors import FAILED

if TYPE_CHECKING:
    from deployments.records.snapshot import Snapshot
    from deployments.table.api import TableApi


@click.command(help=__doc__)
@options.address
@options.as_json
def command(address: str, as_json: bool) -> int:
    """Print the status; 1 if something is not well."""
    from serve_app.console.connection import connected

    with connected(address) as table:
        from ray import serve

        snapshot, core = asyncio.run(_read(table))
        applications = serve.status().applications
    from rich.console import Console

    from serve_app.console.health import problems_of, reasons_of, summarise
    from serve_app.console.rendering import status_page

    states = {name: str(app.status.value) for name, app in applications.items()}
    status = summarise(snapshot, core, states, reasons_of(applications))
    problems = problems_of(status)
    if as_json:
        print(json.dumps({**status, "problems": problems}))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(status_page(status, problems))
    return FAILED if problems else 0


async def _read(table: "TableApi") -> "tuple[Snapshot, dict[str, Any]]":
    return await table.snapshot("", 0, 5.0), await table.status()
