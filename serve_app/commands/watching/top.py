"""Show live what the pool does: requests/s, load, latency and errors of each model. Ctrl-C ends it."""

import asyncio
import sys
from typing import TYPE_CHECKING, Final

import click

from serve_app.console import options

if TYPE_CHECKING:
    from deployments.table.api import TableApi

REFRESH_S: Final = 0.5


@click.command(help=__doc__)
@click.option("--once", is_flag=True, help="print one page and end")
@options.address
@options.as_json
def command(once: bool, address: str, as_json: bool) -> None:
    """Follow the table until interrupted; with JSON a snapshot a line."""
    from serve_app.console.connection import connected

    with connected(address) as table:
        try:
            asyncio.run(_follow(table, once, as_json))
        except KeyboardInterrupt:
            return


async def _follow(table: "TableApi", once: bool, as_json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from serve_app.console.rendering import snapshot_json
    from serve_app.console.top import Rates, top_page

    rates, console = Rates(), Console(width=None if sys.stdout.isatty() else 180)
    snapshot = await table.snapshot("", 0, 5.0)
    with Live(console=console, auto_refresh=False, screen=sys.stdout.isatty() and not once) as live:
        while True:
            if as_json:
                print(snapshot_json(snapshot), flush=True)
            else:
                live.update(top_page(snapshot, rates.per_s(snapshot)), refresh=True)
            if once:
                return
            await asyncio.sleep(REFRESH_S)
            snapshot = await table.snapshot(snapshot.boot_id, snapshot.version, REFRESH_S)
