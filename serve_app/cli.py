"""The command line: `fastserve COMMAND`, each command a module of serve_app.commands."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from serve_app import commands
from serve_app.console.errors import INTERRUPTED, CommandError

_FOLDER: Final = Path(commands.__path__[0])
_HELP: Final = """One OpenAI-compatible endpoint in front of a pool of LLMs on a Ray cluster.

Exit codes: 0 done and well; 1 failed, or not well; 2 unusable arguments; 3 the config file was refused;
4 no cluster reachable; 5 not confirmed, nothing changed; 130 interrupted.
"""


def names() -> list[str]:
    """The commands there are."""
    return sorted(_files())


def _files() -> dict[str, Path]:
    """The module of each command, by its name."""
    return {path.stem: path.relative_to(_FOLDER) for path in _FOLDER.rglob("[!_]*.py")}


class Commands(click.Group):
    """The commands, each imported only to run it or to show its own help: the overview must stay instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands there are."""
        return names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a module, imported."""
        path = _files().get(cmd_name)
        if path is None:
            return None
        module = ".".join((commands.__name__, *path.with_suffix("").parts))
        command: click.Command = importlib.import_module(module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line for each command: the first of its module, read and not imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(name)) for name in names()])


def summary(name: str) -> str:
    """The first line of a command's module, without its quotes."""
    with (_FOLDER / _files()[name]).open(encoding="utf-8") as source:
        return source.readline().strip().strip('"')


@click.command(
    cls=Commands, name="fastserve", help=_HELP, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="fastserve-dispatch")
def fastserve() -> None:
    """The group of all commands."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = fastserve.main(arguments or ["--help"], prog_name="fastserve", standalone_mode=False)
    except click.Abort:
        print("fastserve: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CommandError as error:
        print(f"fastserve {arguments[0]}: {error}", file=sys.stderr)
        return error.code
    return code if isinstance(code, int) else 0
