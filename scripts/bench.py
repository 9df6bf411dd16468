"""Run one benchmark: `python scripts/bench.py NAME [options] [--json FILE]`."""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import scripts.benchmarks  # noqa: E402 - the checkout comes first on the path
from scripts.benchmarks._frame import finish, machine  # noqa: E402


def names() -> list[str]:
    """The benchmarks there are: every public module in scripts/benchmarks."""
    found = (module.name for module in pkgutil.iter_modules(scripts.benchmarks.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def load(name: str) -> ModuleType:
    """The module of one benchmark. Raises SystemExit naming the known ones."""
    if name not in names():
        raise SystemExit(f"Benchmark '{name}' is not known. Known: {', '.join(names())}.")
    return importlib.import_module(f"scripts.benchmarks.{name}")


def main(argv: list[str]) -> int:
    """Parse, run, report. Returns 1 when a bar failed."""
    if not argv or argv[0] in {"-h", "--help"}:
        print(__doc__, "\n\nBenchmarks:", ", ".join(names()))
        return 0
    module = load(argv[0])
    parser = argparse.ArgumentParser(prog=f"bench.py {argv[0]}", description=module.__doc__)
    module.add_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write bars and results here")
    args = parser.parse_args(argv[1:])
    at_start = machine()
    return finish(module.run(args), argv, at_start, args.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
