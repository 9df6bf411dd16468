"""Show the performance table: what the dispatcher knows of each model and replica."""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from serve_app.console import options
from serve_app.console.errors import CommandError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from deployments.records.snapshot import Snapshot
    from deployments.table.actor import RayTable

WIDTH: Final = 180  # of a table that is not shown in a terminal


@click.command(help=__doc__)
@click.option("--watch", is_flag=True, help="follow changes until interrupted; with --json a snapshot a line")
@click.option("--replicas", is_flag=True, help="show replicas too")
@click.option("--tasks", is_flag=True, help="show accuracy by task too")
@options.address
@options.as_json
def command(watch: bool, replicas: bool, tasks: bool, address: str, as_json: bool) -> None:
    """Print the table once, or until interrupted."""
    from serve_app.console.connection import connect

    actor = connect(address)
    from deployments.table.actor import RayTable, TableError
    from serve_app.console.rendering import snapshot_json, table_page

    def page(snapshot: "Snapshot") -> "RenderableType":
        return table_page(snapshot, replicas, tasks)

    def line(snapshot: "Snapshot") -> None:
        print(snapshot_json(snapshot), flush=True)

    table = RayTable(actor)
    try:
        if watch and not as_json:
            asyncio.run(_watch(table, page))
        else:
            asyncio.run(_print(table, line if as_json else lambda one: _console().print(page(one)), watch))
    except TableError as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        return


def _console() -> "Console":
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


async def _print(table: "RayTable", show: "Callable[[Snapshot], None]", watch: bool) -> None:
    """The table's snapshot, and with `watch` each that follows."""
    snapshot = await table.snapshot("", 0, 5.0)
    show(snapshot)
    while watch:
        snapshot = await table.snapshot(snapshot.boot_id, snapshot.version, 5.0)
        show(snapshot)


async def _watch(table: "RayTable", page: "Callable[[Snapshot], RenderableType]") -> None:
    """The newest snapshot in place of the one before."""
    from rich.live import Live

    snapshot = await table.snapshot("", 0, 5.0)
    with Live(console=_console(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            live.update(page(snapshot), refresh=True)
            await asyncio.sleep(0.2)
            snapshot = await table.snapshot(snapshot.boot_id, snapshot.version, 5.0)
