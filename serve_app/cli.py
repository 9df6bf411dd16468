"""The command line: `fastserve COMMAND`, each command a module of serve_app.commands."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from serve_app import commands
from serve_app.console.connection import CommandError


def names() -> list[str]:
    """The commands there are."""
    return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))


def load(name: str) -> ModuleType:
    """The module of a command, imported only when it is asked for: the help must stay instant."""
    return importlib.import_module(f"serve_app.commands.{name}")


def _overview() -> str:
    rows = [f"  {name:<10} {(load(name).__doc__ or '').strip().splitlines()[0]}" for name in names()]
    return (
        "usage: fastserve COMMAND [options]\n\n" + "\n".join(rows) + "\n\nfastserve COMMAND --help says more."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code: 2 for unusable arguments, 1 for what failed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(_overview())
        return 0
    name = arguments[0]
    if name not in names():
        print(f"fastserve: command '{name}' is not known. Known: {', '.join(names())}.", file=sys.stderr)
        return 2
    module = load(name)
    parser = argparse.ArgumentParser(prog=f"fastserve {name}", description=module.__doc__)
    module.add_arguments(parser)
    try:
        code: int = module.run(parser.parse_args(arguments[1:]))
    except CommandError as error:
        print(f"fastserve {name}: {error}", file=sys.stderr)
        return 1
    return code
