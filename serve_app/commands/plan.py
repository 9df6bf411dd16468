"""Show what a config file would change in the running cluster; change nothing."""

import json
from pathlib import Path

import click

from serve_app.console import options


@click.command(help=f"{__doc__}\n\n+ added, - removed, ! restarted, ~ changed live, ? at Serve's next start.")
@options.config
@options.engine_flags
@options.address
@options.as_json
def command(config: Path, engine_flags: bool, address: str, as_json: bool) -> None:
    """Check, compare, print."""
    from serve_app.console.planning import planned

    _, plan = planned(config, engine_flags, address)
    print(json.dumps(plan.document(), indent=1) if as_json else plan.text())
