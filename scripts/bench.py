"""Run one benchmark: `python scripts/bench.py NAME [options] [--json FILE]`."""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.benchmarks.report import finish  # noqa: E402 - the checkout comes first on the path
from serve_app.console.machine import machine  # noqa: E402


def _files() -> dict[str, Path]:
    """Every benchmark's file by its name: the modules below scripts/benchmarks with arguments and a run."""
    rooms = (ROOT / "scripts" / "benchmarks").glob("*/*.py")
    return {path.stem: path for path in rooms if _is_benchmark(path.read_text())}


def _is_benchmark(source: str) -> bool:
    return "\ndef add_arguments(" in source and "\ndef run(" in source


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(_files())


def load(name: str) -> ModuleType:
    """The module of one benchmark. Raises SystemExit naming the known ones."""
    files = _files()
    if name not in files:
        raise SystemExit(f"Benchmark '{name}' is not known. Known: {', '.join(sorted(files))}.")
    return importlib.import_module(f"scripts.benchmarks.{files[name].parent.name}.{name}")


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
