"""Apply a config of the history again: NUMBER, or the last healthy one before the present one."""

import asyncio
import json
import sys

import click

from serve_app.commands.deploy import confirmed
from serve_app.console import options
from serve_app.console.errors import UNCONFIRMED, CommandError


@click.command(help=__doc__)
@click.argument("number", type=int, required=False)
@options.yes
@options.timeout
@options.address
@options.as_json
def command(number: int | None, yes: bool, timeout_s: float, address: str, as_json: bool) -> int:
    """Go back; the exit code says whether that config runs."""
    from serve_app.console.connection import connected

    with connected(address) as table:
        from serve_app.cluster_file.changes import changes
        from serve_app.cluster_file.history import entries, good_entry
        from serve_app.cluster_file.running import running_config
        from serve_app.console.deploying import deploy
        from serve_app.console.planning import Plan

        found = asyncio.run(entries(table))
    try:
        entry = good_entry(found, number)
    except ValueError as error:
        raise CommandError(str(error)) from error
    running = running_config()
    plan = Plan(running, tuple(changes(running, entry.config)), (), False)
    print(f"To entry {entry.number}, applied by {entry.who}:\n{plan.text()}", file=sys.stderr)
    if plan.changes and not confirmed(yes):
        return UNCONFIRMED
    if plan.changes:
        deploy(entry.config, running, f"rollback to {entry.number}", timeout_s)
    print(json.dumps({"number": entry.number, **plan.document()}) if as_json else "The config runs.")
    return 0
