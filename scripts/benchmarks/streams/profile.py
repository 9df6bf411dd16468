"""Where the ingress spends its CPU: a sampling profiler (py-spy) over plain answers and over streams.

Each sample counts for the innermost frame that belongs to a part: a room of ours, Ray Serve, Ray's metrics,
the HTTP server, the client to the replicas, the event loop. Samples of threads that wait are left out.
`--flames FILE` also draws the whole as a flame graph.
"""

import argparse
import asyncio
import secrets
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import aiohttp

from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving.environments import installed
from scripts.benchmarks.serving.private_pool import document, simulated_model, started
from scripts.benchmarks.serving.processes import Groups
from serve_app.console.text_table import print_table

PY_SPY: Final = "py-spy>=0.4,<0.5"
MODEL: Final = "mock"
ENGINE: Final = {
    "decode_step_s": 0.002,
    "decode_step_per_sequence_s": 0.0,
    "mean_output_tokens": 32,
    "max_sequences": 512,
}
INGRESS: Final = "ServeReplica:fastserve:Ingress"
PARTS: Final = {  # a piece of a path -> the part that it belongs to; the first that fits
    "serve_app/": "serve_app",
    "deployments/metrics": "metrics (ours)",
    "deployments/": "deployments",
    "policies/": "policies",
    "ray/util/metrics": "metrics (Ray)",
    "ray/serve/metrics": "metrics (Ray)",
    "ray/serve/": "Ray Serve",
    "ray/": "Ray",
    "aiohttp/": "aiohttp (client to the replicas)",
    "uvicorn/": "uvicorn (HTTP server)",
    "starlette/": "starlette",
    "asyncio/": "asyncio",
}
_WAITS: Final = ("wait (", "main_loop (", "_worker (", "select (", "Thread.run (", "get (queue.py")
_RATE_PER_S: Final = 250
_CALLERS: Final = 8
_WARM_S: Final = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=float, default=20.0, help="of each form")
    parser.add_argument("--py-spy-venv", type=Path, default=Path(".venv-py-spy"))
    parser.add_argument("--flames", type=Path, metavar="FILE", help="draw plain answers as flames, SVG")


async def _load(url: str, key: str, stream: bool, seconds: float) -> int:
    """Callers that ask again at once; the number of answers."""
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": "Give me sixteen words about nothing in particular."}],
        "max_tokens": 64 if stream else 8,
        "stream": stream,
    }
    until_s, done = time.monotonic() + seconds, 0
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:

        async def caller() -> None:
            nonlocal done
            while time.monotonic() < until_s:
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    await answer.read()
                    if answer.status != 200:
                        raise RuntimeError(f"{answer.status}: {(await answer.text())[:200]}")
                    done += 1

        await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    return done


def shares(samples: str) -> dict[str, float]:
    """The share of each part in py-spy's folded stacks, a line `frame;frame;frame count` each."""
    found: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if any(wait in frames[-1] for wait in _WAITS) or len(frames) < 2:
            continue
        found[_part(frames)] += int(count)
    total = sum(found.values()) or 1
    return {part: count / total for part, count in found.most_common()}


def _part(frames: list[str]) -> str:
    for frame in reversed(frames):
        for piece, part in PARTS.items():
            if f"({piece}" in frame or f"/{piece}" in frame:
                return part
    return "other"


def run(args: argparse.Namespace) -> Report:
    """A pool of one simulated model, and the profiler on its ingress."""
    py_spy = installed(args.py_spy_venv, PY_SPY, "py-spy")
    key = f"fs-bench-{secrets.token_hex(16)}"
    found: dict[str, Profile] = {}
    whole = document([simulated_model(MODEL, ENGINE)], 1)
    with (
        tempfile.TemporaryDirectory(prefix="fastserve-profile-") as folder,
        started(whole, variables={"FASTSERVE_API_KEY": key}) as pool,
    ):
        groups = Groups({"ingress": (INGRESS,)})
        [pid] = groups.pids["ingress"]
        for form, stream in (("json", False), ("sse", True)):
            asyncio.run(_load(pool.base_url, key, stream, _WARM_S))
            before = groups.usage()["ingress"].cpu_s
            raw = Path(folder, "samples")
            with _recording(py_spy, pid, args.seconds, "raw", raw):
                answers = asyncio.run(_load(pool.base_url, key, stream, args.seconds + 1.0))
            cpu_us = 1e6 * (groups.usage()["ingress"].cpu_s - before) / answers
            found[form] = Profile(cpu_us, shares(raw.read_text()))
        if args.flames:
            with _recording(py_spy, pid, args.seconds, "flamegraph", args.flames):
                asyncio.run(_load(pool.base_url, key, False, args.seconds + 1.0))
    return _report(found)


@contextmanager
def _recording(py_spy: str, pid: int, seconds: float, form: str, out: Path) -> Iterator[None]:
    """py-spy beside the block; its file is there after it. Raises RuntimeError where it failed."""
    words = (py_spy, "record", "-p", str(pid), "-d", f"{seconds:.0f}", "-r", str(_RATE_PER_S))
    started = subprocess.Popen(
        (*words, "-f", form, "-o", str(out)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    yield
    _, told = started.communicate(timeout=60)
    if started.returncode:
        raise RuntimeError(f"py-spy ended with {started.returncode}: {told.decode()[-300:]}")


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one form of answers: CPU of the ingress a request, the profiler's own included, and its parts."""

    cpu_us: float
    shares: dict[str, float]


def _report(found: dict[str, Profile]) -> Report:
    for form, one in found.items():
        print_table(("part", "share"), list(one.shares.items()), title=f"{form}, CPU of the ingress")
    sampled = sum(bool(one.shares) for one in found.values())
    results = {form: asdict(one) for form, one in found.items()}
    return Report("profile", (bar("profile.forms_sampled", sampled, ">=", 2),), results)
