"""Print the first API key of this machine's key file, for scripts."""

import argparse

from deployments.home import home
from serve_app.cli import CommandError
from serve_app.keys import read_key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(args: argparse.Namespace) -> int:
    """Print the key, and nothing else."""
    try:
        print(read_key(home()))
    except ValueError as error:
        raise CommandError(str(error)) from error
    return 0
