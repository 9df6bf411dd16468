"""The versions of the policy: list, show, promote, rollback, shadow, pause, resume."""

import asyncio
from typing import Final

import click

from serve_app.console import options
from serve_app.console.errors import CommandError

ACTIONS: Final = ("list", "show", "promote", "rollback", "shadow", "pause", "resume")


@click.command(help=f"{__doc__}\n\n`show` without VERSION takes the one on trial, or the active one.")
@click.argument("action", type=click.Choice(ACTIONS))
@click.argument("version", type=int, required=False)
@options.address
@options.as_json
def command(action: str, version: int | None, address: str, as_json: bool) -> int:
    """Do it and print what is now."""
    from serve_app.console.connection import connect

    actor = connect(address)
    from deployments.table.actor import RayTable, TableError
    from serve_app.console.versions import Action, act

    try:
        return asyncio.run(act(RayTable(actor), Action(action, version, as_json), print))
    except TableError as error:
        raise CommandError(str(error)) from error
