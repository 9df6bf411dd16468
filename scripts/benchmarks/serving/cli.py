"""The command line: CPU time of its help, and the time to the sentence where no cluster can be reached."""

import argparse
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from scripts.benchmarks.report import Report, bar, interval
from serve_app.cli import names
from serve_app.console.errors import UNREACHABLE

HELP_CPU_S = 0.3
NO_CLUSTER_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--repeats", type=int, default=10, help="runs of each command (default 10)")


def run(args: argparse.Namespace) -> Report:
    """Time each kind of call in processes of its own; the slowest command of a kind counts."""
    helps = {name: _cpu_s([name, "--help"], args.repeats) for name in names()}
    helps[""] = _cpu_s(["--help"], args.repeats)
    mean_s, spread_s = interval(helps[""])
    slowest = max(helps, key=lambda name: sum(helps[name]))
    slowest_s, slowest_spread_s = interval(helps[slowest])
    with _silent_server() as address:
        waits = {kind: _wall_s(words, args.repeats) for kind, words in _unreachable(address).items()}
    bars = [
        bar("CPU of `fastserve --help`, s", mean_s, "<=", HELP_CPU_S, spread_s),
        bar(f"CPU of the slowest help, `{slowest}`, s", slowest_s, "<=", HELP_CPU_S, slowest_spread_s),
    ]
    for kind, times_s in waits.items():
        bars.append(bar(f"no cluster ({kind}): s to the sentence", max(times_s), "<=", NO_CLUSTER_S))
    return Report("cli", tuple(bars), {"help_cpu_s": helps, "no_cluster_s": waits})


def _unreachable(silent: str) -> dict[str, list[str]]:
    """Commands that find no cluster, by why."""
    return {
        "nothing listens": ["status", "--address", "127.0.0.1:9"],
        "accepts and says nothing": ["status", "--address", silent],
    }


@contextmanager
def _silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _call(words: list[str], code: int) -> None:
    command = [sys.executable, "-m", "serve_app", *words]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != code:
        raise SystemExit(f"'{' '.join(words)}' ended with {done.returncode}: {done.stderr[-500:]}")


def _cpu_s(words: list[str], repeats: int) -> list[float]:
    """CPU seconds of each run, user and system, the interpreter's start included."""
    found = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _call(words, 0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return found


def _wall_s(words: list[str], repeats: int) -> list[float]:
    """Wall seconds of each run, which must end with the exit code for no cluster."""
    found = []
    for _ in range(repeats):
        began_s = time.perf_counter()
        _call(words, UNREACHABLE)
        found.append(time.perf_counter() - began_s)
    return found
