"""Show usage and cost from the outcome log: by day, key, model and profile."""

import asyncio
import json
import re
import time

import click

from serve_app.console import options

DAY_S = 86_400.0


@click.command(help=__doc__)
@click.option("--days", type=float, default=7.0, show_default=True, help="days to look back")
@click.option("--idle", metavar="WINDOW", help="instead, what replicas cost in this window, as `1d`")
@options.address
@options.as_json
def command(days: float, idle: str | None, address: str, as_json: bool) -> None:
    """Sum and print."""
    from serve_app.console.connection import connected

    if idle is not None:
        _require_window(idle)
    with connected(address) as table:
        from serve_app.access.idle import idle_costs
        from serve_app.access.spending import read, summed

        async def log() -> list[dict[str, object]]:
            return summed([pair async for pair in read(table, time.time() - days * DAY_S)])

        rows = asyncio.run(log() if idle is None else idle_costs(table, idle))
    from serve_app.console.text_table import print_table

    title = f"{days:g} days" if idle is None else f"this {idle}"
    if as_json:
        print(json.dumps(rows))
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows], title)
    elif idle is not None:
        print("No model has a price by the hour.")
    else:
        print(f"No request ended in the last {days:g} days.")


def _require_window(window: str) -> None:
    from deployments.records.windows import PATTERN

    if re.fullmatch(PATTERN, window) is None:
        raise click.BadParameter(f"'{window}' is no window; write 1d, 12h, 2w or month.", param_hint="--idle")
