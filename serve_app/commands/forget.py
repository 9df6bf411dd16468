"""Delete what the store keeps of one API key, or of one decision."""

import asyncio
import getpass
import json

import click

from serve_app.console import options
from serve_app.console.errors import UNCONFIRMED, CommandError


@click.command(
    help=f"{__doc__}\n\nDecisions with their features, outcomes and votes go, and the deletion is audited. "
    "What was fitted to many requests stays until it is fitted anew. docs/security.md says what is kept."
)
@click.option("--key", help="name of the key, or its id where the key is revoked")
@click.option("--decision", help="id of the decision, from the header x-fastserve-decision-id")
@click.option("--yes", is_flag=True, help="do not ask")
@options.address
@options.as_json
def command(key: str | None, decision: str | None, yes: bool, address: str, as_json: bool) -> None:
    """Delete and say how much."""
    if (key is None) == (decision is None):
        raise CommandError("Give exactly one of --key and --decision.")
    key_id = None if key is None else key_id_of(key)
    what = f"of key '{key}' ({key_id})" if key is not None else f"of decision '{decision}'"
    if not yes and not click.confirm(f"Delete every record {what} for ever?", err=True):
        raise CommandError("Nothing was deleted.", UNCONFIRMED)
    from serve_app.console.connection import connected

    with connected(address) as table:
        deleted = asyncio.run(table.forget(key_id or "", decision or "", getpass.getuser()))
    listed = ", ".join(f"{count} {kind}" for kind, count in deleted.items())
    print(json.dumps(deleted) if as_json else f"Deleted {what}: {listed}.")


def key_id_of(name: str) -> str:
    """The id of a key by its name in this home's key file; what is no name there must be an id.

    Raises CommandError.
    """
    from deployments.home import first_key_file, key_file
    from serve_app.access.key_admin import KeyAdmin

    try:
        entries = KeyAdmin(key_file(), first_key_file()).entries()
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    for entry in entries:
        if entry.name == name:
            return entry.identity
    if len(name) == 12 and not set(name) - set("0123456789abcdef"):
        return name
    known = ", ".join(entry.name for entry in entries)
    raise CommandError(
        f"There is no key '{name}'. Known: {known}. Name a revoked key by its id, 12 hex digits."
    )
