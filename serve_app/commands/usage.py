"""Show usage and cost from the outcome log: by day, key, model and profile."""

import asyncio
import json
import time

import click

from serve_app.console import options

DAY_S = 86_400.0


@click.command(help=__doc__)
@click.option("--days", type=float, default=7.0, show_default=True, help="days to look back")
@options.address
@options.as_json
def command(days: float, address: str, as_json: bool) -> None:
    """Sum and print."""
    from serve_app.console.connection import connected

    with connected(address) as table:
        from serve_app.access.spending import read, summed

        async def log() -> list[dict[str, object]]:
            return summed([pair async for pair in read(table, time.time() - days * DAY_S)])

        rows = asyncio.run(log())
    from serve_app.console.text_table import print_table

    if as_json:
        print(json.dumps(rows))
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows], f"{days:g} days")
    else:
        print(f"No request ended in the last {days:g} days.")
