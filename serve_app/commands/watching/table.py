"""Show the performance table: what the dispatcher knows of each model and replica."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from serve_app.console import options

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from deployments.records.snapshot import Snapshot
    from deployments.table.api import TableApi
    from deployments.table.follow import Follower

WIDTH: Final = 180  # of a table that is not shown in a terminal


@click.command(help=__doc__)
@click.option("--watch", is_flag=True, help="follow changes until interrupted; with --json a snapshot a line")
@click.option("--replicas", is_flag=True, help="show replicas too")
@click.option("--tasks", is_flag=True, help="show accuracy by task too")
@options.address
@options.as_json
def command(watch: bool, replicas: bool, tasks: bool, address: str, as_json: bool) -> None:
    """Print the table once, or until interrupted."""
    from serve_app.console.connection import connected

    with connected(address) as table, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_show(table, watch, replicas, tasks, as_json))


async def _show(table: "TableApi", watch: bool, replicas: bool, tasks: bool, as_json: bool) -> None:
    from deployments.table.follow import Follower
    from serve_app.console.rendering import snapshot_json, table_page

    def page(snapshot: "Snapshot") -> "RenderableType":
        return table_page(snapshot, replicas, tasks)

    def line(snapshot: "Snapshot") -> None:
        print(snapshot_json(snapshot), flush=True)

    follower = Follower(table)
    if watch and not as_json:
        await _watch(follower, page)
    else:
        await _print(follower, line if as_json else lambda snapshot: _console().print(page(snapshot)), watch)


def _console() -> "Console":
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


async def _print(follower: "Follower", show: "Callable[[Snapshot], None]", watch: bool) -> None:
    """The table's snapshot, and with `watch` each that follows."""
    show(await follower.next())
    while watch:
        show(await follower.next())


async def _watch(follower: "Follower", page: "Callable[[Snapshot], RenderableType]") -> None:
    """The newest snapshot in place of the one before."""
    from rich.live import Live

    with Live(console=_console(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            live.update(page(await follower.next()), refresh=True)
            await asyncio.sleep(0.2)
