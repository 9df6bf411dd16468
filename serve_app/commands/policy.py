"""List and show policy versions; promote, roll back or shadow one; pause and resume learning."""

import asyncio
from typing import Final

import click

from serve_app.console import options

ACTIONS: Final = ("list", "show", "promote", "rollback", "shadow", "pause", "resume")


@click.command(
    help=f"{__doc__}\n\n`show` without VERSION shows the candidate on trial, else the active version."
)
@click.argument("action", type=click.Choice(ACTIONS))
@click.argument("version", type=int, required=False)
@options.address
@options.as_json
def command(action: str, version: int | None, address: str, as_json: bool) -> int:
    """Do it and print what is now."""
    from serve_app.console.connection import connected

    with connected(address) as table:
        from serve_app.console.versions import Action, act

        return asyncio.run(act(table, Action(action, version, as_json), print))
