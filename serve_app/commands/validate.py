"""Check a config file without a cluster: say what is wrong, where, and what to do about it."""

import json
import sys
from pathlib import Path

import click

from serve_app.console import options
from serve_app.console.errors import REFUSED


@click.command(help=f"{__doc__}\n\nNothing is started, fetched or executed.")
@options.config
@options.engine_flags
@options.as_json
def command(config: Path, engine_flags: bool, as_json: bool) -> int:
    """Print the problems, or that there are none."""
    from deployments.home import key_file
    from serve_app.cluster_file.document import FileError
    from serve_app.cluster_file.validation import validated

    problems = []
    try:
        validated(config, engine_flags, key_file())
    except FileError as error:
        problems = error.problems
    if as_json:
        rows = [{"line": one.line, "path": one.path, "message": one.message} for one in problems]
        print(json.dumps({"file": str(config), "problems": rows}, indent=1))
    else:
        for one in problems:
            print(one.text(str(config)), file=sys.stderr)
        if not problems:
            print(f"{config} is valid.")
    return REFUSED if problems else 0
