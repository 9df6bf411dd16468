"""From installed to the first answer of every model of cluster.yaml: seconds, CPU, and who spends it.

Weights are made too, in a home of its own. CPU is that of the whole machine, which has to be quiet: it
counts processes that end before they can be looked at. `--against REVISION` measures that one in turns.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import psutil
import yaml
from tqdm import tqdm

from scripts.benchmarks.checkout import ROOT, checkout
from scripts.benchmarks.report import Report, bar, interval
from scripts.benchmarks.serving.processes import descendants

MOST_OF_BEFORE: Final = 0.5
Seen = dict[tuple[int, str], float]  # CPU seconds by process and role
_LIMIT_S: Final = 600.0
_LOOK_S: Final = 0.5
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_ROLES: Final = (  # the first that a command line holds
    ("engines: vLLM's core processes", r"EngineCore|spawn_main|resource_tracker"),
    ("engines: front ends", r"ServeReplica:model-"),
    ("ingress", r"ServeReplica:fastserve:Ingress"),
    ("evaluator", r"ServeReplica:fastserve:Evaluator"),
    ("learner", r"ServeReplica:fastserve:Learner"),
    ("dashboard (ours)", r"ServeReplica:dashboard"),
    ("table", r"PerformanceTable"),
    ("Serve's controller and proxy", r"ServeController|ProxyActor|HAProxy|haproxy"),
    ("Ray: idle workers", r"ray::IDLE|default_worker"),
    ("Ray", r"raylet|gcs_server|/ray/|ray-dashboard"),
    ("the command", r"serve_app|scripts.run"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--against", metavar="REVISION", help="git revision to measure in turns with this one"
    )


@dataclass(frozen=True, slots=True)
class Start:
    """One start. `cpu_s` is that of the machine, `by_role` what of it was seen in processes."""

    wall_s: float
    cpu_s: float
    by_role: Mapping[str, float]


def run(args: argparse.Namespace) -> Report:
    """Start and stop the pool, in turns where there are two revisions."""
    starts: dict[str, list[Start]] = {}
    with _trees(args.against) as trees:
        for _ in tqdm(range(args.rounds), unit="round"):
            for name, tree in trees.items():
                starts.setdefault(name, []).append(_start(tree))
    results: dict[str, object] = {name: _told(found) for name, found in starts.items()}
    bars = []
    if args.against:
        pairs = zip(starts["now"], starts["before"], strict=True)
        share, spread = interval(now.cpu_s / before.cpu_s for now, before in pairs)
        bars = [bar("CPU of a start, share of before", share, "<=", MOST_OF_BEFORE, spread)]
        results["against"] = args.against
    return Report("start", tuple(bars), results)


@contextlib.contextmanager
def _trees(revision: str | None) -> Iterator[dict[str, Path]]:
    """This checkout, and one of `revision`."""
    if revision is None:
        yield {"now": ROOT}
        return
    with checkout(revision) as tree:
        yield {"before": tree, "now": ROOT}


def _start(tree: Path) -> Start:
    """One start of the pool of `tree`, which is stopped again. Raises RuntimeError where it does not come."""
    has_command = (tree / "serve_app" / "commands" / "up.py").is_file()
    command = ["-m", "serve_app", "up"] if has_command else ["-m", "scripts.run"]
    models = _models(tree)
    with tempfile.TemporaryDirectory(prefix="fastserve-start-") as home:
        key = f"fs-bench-{os.urandom(16).hex()}"
        own = {"FASTSERVE_HOME": home, "FASTSERVE_STORE": f"sqlite:///{home}/store.sqlite3"}
        environment = os.environ | own | {"FASTSERVE_API_KEY": key, "PYTHONPATH": str(tree)}
        seen: Seen = {}
        began_s, began_cpu_s = time.monotonic(), _machine_cpu_s()
        with Path(home, "start.log").open("w") as log, _process(command, tree, environment, log) as pool:
            while models:
                if pool.poll() is not None or time.monotonic() - began_s > _LIMIT_S:
                    told = Path(log.name).read_text()[-2000:]
                    raise RuntimeError(f"The pool of '{tree}' did not come within {_LIMIT_S:g} s: {told}")
                _look(pool.pid, seen)
                if _answers(models[0], key):
                    models.pop(0)
                else:
                    time.sleep(_LOOK_S)
            _look(pool.pid, seen)
            spent_s, wall_s = _machine_cpu_s() - began_cpu_s, time.monotonic() - began_s
    return Start(wall_s, spent_s, spent_by_role(seen, spent_s))


@contextlib.contextmanager
def _process(
    command: list[str], tree: Path, environment: Mapping[str, str], log: TextIO
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that is ended with the block."""
    started = subprocess.Popen([sys.executable, *command], cwd=tree, env=environment, stdout=log, stderr=log)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(120)


def _models(tree: Path) -> list[str]:
    applications = yaml.safe_load((tree / "cluster.yaml").read_text())["applications"]
    return [app["args"]["id"] for app in applications if app["name"].startswith("model-")]


def _machine_cpu_s() -> float:
    """CPU seconds of all processes since boot, ended ones too."""
    user, nice, system, *_ = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    return (int(user) + int(nice) + int(system)) / _TICKS_PER_S


def _look(pid: int, seen: Seen) -> None:
    """The CPU of every process of the pool up to now, by its role."""
    for one in descendants(pid):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(one)
            times, line = process.cpu_times(), " ".join(process.cmdline()) or process.name()
            seen[one, role(line)] = times.user + times.system


def role(line: str) -> str:
    return next((name for name, mark in _ROLES if re.search(mark, line)), "others")


def spent_by_role(seen: Seen, whole_s: float) -> dict[str, float]:
    """A process that changed its title has spent under each what it had not before."""
    spent, last = dict.fromkeys([name for _, name in seen], 0.0), dict[int, float]()
    for (pid, role), cpu_s in sorted(seen.items(), key=lambda pair: pair[1]):
        spent[role] += cpu_s - last.get(pid, 0.0)
        last[pid] = cpu_s
    spent["ended before they were seen, or not ours"] = whole_s - sum(spent.values())
    return spent


def _answers(model: str, key: str) -> bool:
    """Whether a model answers one token."""
    message = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    url = "http://127.0.0.1:8000/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(message).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60.0) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def _told(starts: list[Start]) -> dict[str, object]:
    roles = sorted({role for start in starts for role in start.by_role})
    mean = {role: interval(start.by_role.get(role, 0.0) for start in starts)[0] for role in roles}
    return {
        "wall_s": [start.wall_s for start in starts],
        "cpu_s": [start.cpu_s for start in starts],
        "mean_cpu_s_by_role": dict(sorted(mean.items(), key=lambda pair: -pair[1])),
    }
