"""Examine this machine: ports beyond loopback, Ray's token, file modes, the store, versions."""

import json
from dataclasses import asdict

import click

from serve_app.console import options
from serve_app.console.errors import FAILED


@click.command(help=f"{__doc__}\n\nRun it on each node. Exit code 1: there is a problem.")
@options.as_json
def command(as_json: bool) -> int:
    """Print what was found."""
    from deployments.home import home, key_file, store_url
    from serve_app.console.doctor import examine
    from serve_app.console.text_table import table_text

    findings = examine(home(), key_file(), store_url())
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        rows = [(one.level, one.subject, one.state, one.advice) for one in findings]
        print(table_text(("", "what", "state", "do this"), rows))
    return FAILED if any(finding.level == "problem" for finding in findings) else 0
