"""List the configs that were applied: when, by whom, and whether they ran."""

import asyncio
import json
from dataclasses import asdict

import click

from serve_app.console import options
from serve_app.console.errors import CommandError


@click.command(
    help=f"{__doc__}\n\nWith NUMBER print that config, as YAML.\n\n"
    "+ added, - removed, ! restarted, ~ changed live, ? at Serve's next start."
)
@click.argument("number", type=int, required=False)
@options.address
@options.as_json
def command(number: int | None, address: str, as_json: bool) -> None:
    """Print the list, or one config."""
    from serve_app.console.connection import connected

    with connected(address) as table:
        import yaml

        from serve_app.cluster_file.history import entries
        from serve_app.console.text_table import table_text

        found = asyncio.run(entries(table))
    if number is not None and not 1 <= number <= len(found):
        raise CommandError(f"Entry {number} is not in the history, which has {len(found)}.")
    shown = found if number is None else [found[number - 1]]
    if as_json:
        print(json.dumps([asdict(entry) for entry in shown], indent=1))
    elif number is not None:
        print(yaml.safe_dump(shown[0].config, sort_keys=False), end="")
    elif not found:
        print("No config was applied by `fastserve deploy` yet.")
    else:
        heads = ("number", "when", "who", "what", "healthy", "changed")
        before = [None, *found]
        print(table_text(heads, [entry.line(last) for last, entry in zip(before, found, strict=False)]))
