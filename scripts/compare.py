"""Compare a benchmark before and after a change, in turns on one machine.

`python -m scripts.compare REVISION NAME [--rounds N] [--json FILE] -- [options of the benchmark]`
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from scripts.benchmarks.checkout import ROOT, checkout
from scripts.benchmarks.report import Report, bar, finish, interval
from serve_app.console.machine import machine

MOST_LOSS: Final = 0.10  # share of a figure that a change may cost, at the upper end of the interval


def losses(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The loss of each bar, round by round: the share by which `after` is worse; below 0 it is better.

    `before` and `after` are the documents that `bench.py` wrote. Bars that only one side has are left out.
    """
    found: dict[str, list[float]] = {}
    for old, new in zip(before, after, strict=True):
        values = {one["name"]: one["value"] for one in old["bars"]}
        for one in new["bars"]:
            if values.get(one["name"]):
                ratio = one["value"] / values[one["name"]]
                found.setdefault(one["name"], []).append(ratio - 1 if one["op"] == "<=" else 1 - ratio)
    return found


def run(revision: str, name: str, options: Sequence[str], rounds: int) -> Report:
    """Warm both sides up once, then measure them in turns, each first in every other round."""
    measured: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    with checkout(revision) as tree:
        sides = {"before": tree, "after": ROOT}
        for turn in tqdm(range(rounds + 1), unit="round"):
            for side in sorted(sides, reverse=bool(turn % 2)):
                document = _measure(sides[side], name, options, tree.with_name("result.json"))
                if turn:
                    measured[side].append(document)
    bars = []
    for figure, values in losses(measured["before"], measured["after"]).items():
        mean, spread = interval(values)
        bars.append(bar(f"{figure}: loss, upper end", mean + spread, "<=", MOST_LOSS, spread))
    values_of = {side: [_values(one) for one in documents] for side, documents in measured.items()}
    return Report(f"{name} since {revision}", tuple(bars), {"revision": revision, "rounds": values_of})


def _measure(tree: Path, name: str, options: Sequence[str], out: Path) -> dict[str, Any]:
    command = [sys.executable, "scripts/bench.py", name, *options, "--json", str(out)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):  # 1: a bar of its own failed, which is not what is asked here
        raise SystemExit(
            f"'{' '.join(command)}' in {tree} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    document: dict[str, Any] = json.loads(out.read_text())
    out.unlink()
    return document


def _values(document: Mapping[str, Any]) -> dict[str, float]:
    return {one["name"]: one["value"] for one in document["bars"]}


def divided(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The arguments of this command, and after `--` those of the benchmark.

    argparse would give a list of positional arguments nothing once an option of ours stands before `--`.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    return argv[:end], argv[end + 1 :]


def main(argv: Sequence[str]) -> int:
    """Parse, compare, report. Returns 1 where a figure may have lost more than is allowed."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.compare",
        description="Compare a benchmark before and after a change, in turns on one machine.",
        epilog="Options after -- go to the benchmark.",
    )
    parser.add_argument("revision", help="git revision to compare with")
    parser.add_argument("name", help="benchmark")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    own, options = divided(argv)
    args = parser.parse_args(own)
    at_start = machine()
    report = run(args.revision, args.name, options, args.rounds)
    return finish(report, argv, at_start, args.json, command=("python", "-m", "scripts.compare"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
