"""Apply a config file to the running cluster: check, show, ask, apply, wait, go back if it is not healthy."""

import json
import sys
from pathlib import Path

import click

from serve_app.console import options
from serve_app.console.errors import UNCONFIRMED, CommandError


@click.command(help=__doc__)
@options.config
@options.yes
@click.option("--allow-delete", is_flag=True, help="allow to remove the endpoint, or the last model")
@options.timeout
@options.engine_flags
@options.address
@options.as_json
def command(
    config: Path,
    yes: bool,
    allow_delete: bool,
    timeout_s: float,
    engine_flags: bool,
    address: str,
    as_json: bool,
) -> int:
    """Deploy; the exit code says whether it runs."""
    from serve_app.console.deploying import deploy
    from serve_app.console.planning import planned

    document, plan = planned(config, engine_flags, address)
    print(plan.text(), file=sys.stderr)
    if plan.removes_service and not allow_delete:
        raise CommandError("This would leave no endpoint or no model. Mean it? Then add --allow-delete.")
    if plan.changes and not confirmed(yes):
        return UNCONFIRMED
    if plan.changes:
        deploy(document.values, plan.running, "deploy", timeout_s)
    print(json.dumps({**plan.document(), "healthy": True}) if as_json else "The config runs.")
    return 0


def confirmed(yes: bool) -> bool:
    """Whether to go on: --yes, or the answer of who sits there; no answer is a no."""
    if yes:
        return True
    if sys.stdin.isatty() and click.confirm("Apply this?", err=True):
        return True
    print("Nothing was changed. Confirm, or give --yes.", file=sys.stderr)
    return False
