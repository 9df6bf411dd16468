"""What a gateway adds: FastServe, LiteLLM's proxy and a bare Ray Serve pass-through before one mock upstream.

FastServe (engine `openai`) and the bare FastAPI pass-through share one Ray cluster and its HAProxy; LiteLLM
has one worker in an environment of its own, which this script makes. Rounds are sequential and interleaved;
an open-loop load follows, because a closed loop hides queueing.
"""

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
import numpy as np
import yaml
from tqdm import tqdm

from scripts.benchmarks.report import Report, bar, interval
from scripts.benchmarks.serving.environments import installed
from scripts.benchmarks.serving.processes import Groups, Usage, descendants
from serve_app.console.local_pool import LocalPool
from serve_app.console.text_table import print_table

LITELLM: Final = "litellm[proxy]==1.106.*"
LITELLM_QUIET: Final = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
MASTER_KEY: Final = "sk-" + "benchmark" * 6
CPU_OVER_LITELLM: Final = {"json": 0.1, "sse": 0.06}
CPU_OVER_BARE: Final = 0.8
ADDED_P50_MS: Final = 1.2
MESSAGES: Final = [{"role": "user", "content": "Give me sixteen words about nothing in particular, please."}]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=100, help="a round, one after the other")
    parser.add_argument("--rate", type=float, default=25.0, help="requests/s of the open loop")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the open loop, per gateway and form")
    parser.add_argument("--litellm-venv", type=Path, default=Path(".venv-litellm"))


@dataclass(frozen=True, slots=True)
class Gateway:
    """One way to the mock: its URL, its key, and the group of processes that works for it."""

    name: str
    url: str
    key: str
    model: str
    group: tuple[str, ...]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(*command: str, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    started = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()


def litellm_config(folder: Path, upstream: str, model: str = "mock", key: str = "none") -> str:
    """The path of a file for LiteLLM's proxy with one model behind it."""
    parameters = {"model": f"openai/{model}", "api_base": f"{upstream}/v1", "api_key": key}
    document = {
        "model_list": [{"model_name": model, "litellm_params": parameters}],
        "general_settings": {"master_key": MASTER_KEY},
    }
    path = folder / "litellm.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def _cluster_config(folder: Path, upstream: str, port: int) -> Path:
    """cluster.yaml with one upstream model in place of its pool, and the bare pass-through beside."""
    document = yaml.safe_load(Path("cluster.yaml").read_text())
    document["http_options"]["port"] = port
    ingress = next(app for app in document["applications"] if app["name"] == "fastserve")
    ingress["args"] = {"num_cpus": 0.25}  # neither evaluator nor learner
    ingress["deployments"] = [d for d in ingress["deployments"] if d["name"] == "Ingress"]
    model = {
        "name": "model-mock",
        "route_prefix": None,
        "import_path": "serve_app.app:build_model",
        "args": {
            "id": "mock",
            "engine": "openai",
            "num_cpus": 0.25,
            "upstream": {"base_url": f"{upstream}/v1"},
        },
        "deployments": [{"name": "Model", "user_config": {"max_ongoing_requests": 512}}],
    }
    bare = {
        "name": "bare",
        "route_prefix": "/bare",
        "import_path": "scripts.benchmarks.serving.bare:build",
        "args": {"upstream": upstream},
        "deployments": [{"name": "Bare", "ray_actor_options": {"num_cpus": 0.25}}],
    }
    document["applications"] = [ingress, model, bare]
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _body(gateway: Gateway, stream: bool) -> dict[str, Any]:
    return {"model": gateway.model, "messages": MESSAGES, "max_tokens": 16, "stream": stream}


async def _one(session: aiohttp.ClientSession, gateway: Gateway, stream: bool) -> float:
    """Seconds until the whole answer is here. Raises RuntimeError for an answer that is not one."""
    started_s = time.perf_counter()
    headers = {"Authorization": f"Bearer {gateway.key}"}
    url = f"{gateway.url}/v1/chat/completions"
    async with session.post(url, json=_body(gateway, stream), headers=headers) as response:
        data = await response.read()
        if response.status != 200 or b"word" not in data:
            raise RuntimeError(f"{gateway.name}: {response.status} {data[:200]!r}")
    return time.perf_counter() - started_s


async def _sequential(gateway: Gateway, stream: bool, count: int) -> list[float]:
    async with aiohttp.ClientSession() as session:
        return [await _one(session, gateway, stream) for _ in range(count)]


async def _open_loop(gateway: Gateway, stream: bool, rate: float, seconds: float) -> list[float]:
    """Latencies from the time at which each request was due, Poisson arrivals."""
    gaps = np.random.default_rng(0).exponential(1.0 / rate, int(rate * seconds))
    due_s = time.perf_counter() + np.cumsum(gaps)

    async def at(when_s: float) -> float:
        await asyncio.sleep(max(when_s - time.perf_counter(), 0.0))
        await _one(session, gateway, stream)
        return time.perf_counter() - when_s

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        return list(await asyncio.gather(*(at(when_s) for when_s in due_s)))


@dataclass(slots=True)
class Measured:
    """Samples of one gateway and form: ms a request by round, CPU us a request by round, open-loop ms."""

    ms: list[list[float]]
    cpu_us: list[float]
    open_ms: list[float]


def _spent_us(groups: Groups, gateway: Gateway, before: dict[str, Usage], count: int) -> float:
    after = groups.usage()
    return sum(after[name].cpu_s - before[name].cpu_s for name in gateway.group) / count * 1e6


def _measure(
    gateways: list[Gateway], groups: Groups, args: argparse.Namespace
) -> dict[tuple[str, str], Measured]:
    forms = {"json": False, "sse": True}
    found = {(g.name, form): Measured([], [], []) for g in gateways for form in forms}
    order = random.Random(0)
    for gateway in gateways:
        for stream in forms.values():
            asyncio.run(_sequential(gateway, stream, 20))
    with tqdm(total=args.rounds * len(found) + len(found), unit="round") as progress:
        for _ in range(args.rounds):
            for form, stream in forms.items():
                for gateway in order.sample(gateways, len(gateways)):
                    progress.set_description(f"{gateway.name}, {form}")
                    before = groups.usage()
                    times_s = asyncio.run(_sequential(gateway, stream, args.requests))
                    sample = found[gateway.name, form]
                    sample.cpu_us.append(_spent_us(groups, gateway, before, args.requests))
                    sample.ms.append([1e3 * t for t in times_s])
                    progress.update()
        for (name, form), sample in found.items():
            gateway = next(g for g in gateways if g.name == name)
            progress.set_description(f"{name}, {form}, open loop")
            waits_s = asyncio.run(_open_loop(gateway, forms[form], args.rate, args.seconds))
            sample.open_ms = [1e3 * t for t in waits_s]
            progress.update()
    return found


def run(args: argparse.Namespace) -> Report:
    """Start everything on loopback, measure, compare."""
    command = installed(args.litellm_venv, LITELLM, "litellm")
    key = secrets.token_urlsafe(24)
    ports = [free_port() for _ in range(3)]
    upstream = f"http://127.0.0.1:{ports[0]}"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mock = stack.enter_context(
            process(sys.executable, "-m", "scripts.benchmarks.serving.mock_upstream", str(ports[0]))
        )
        options = (
            "--config",
            litellm_config(folder, upstream),
            "--port",
            str(ports[1]),
            "--host",
            "127.0.0.1",
        )
        litellm = stack.enter_context(
            process(command, *options, "--num_workers", "1", environment=LITELLM_QUIET)
        )
        pool = stack.enter_context(
            LocalPool(_cluster_config(folder, upstream, ports[2]), {"FASTSERVE_API_KEY": key})
        )
        pool.wait_with_bar()
        gateways = [
            Gateway("direct", upstream, "none", "mock", ()),
            Gateway("fastserve auto", pool.base_url, key, "auto", ("fastserve", "haproxy")),
            Gateway("fastserve named", pool.base_url, key, "mock", ("fastserve", "haproxy")),
            Gateway("bare ray serve", f"{pool.base_url}/bare", "none", "mock", ("bare", "haproxy")),
            Gateway("litellm", f"http://127.0.0.1:{ports[1]}", MASTER_KEY, "mock", ("litellm",)),
        ]
        for gateway in gateways:
            _await_up(gateway)
        marks = {
            "fastserve": ("ServeReplica:fastserve:Ingress", "ServeReplica:model-mock", "ray::TableActor"),
            "bare": ("ServeReplica:bare",),
            "haproxy": ("haproxy",),
        }
        groups = Groups(marks, {"litellm": descendants(litellm.pid), "mock": [mock.pid]})
        found = _measure(gateways, groups, args)
        memory = {name: usage.memory_bytes / 1e6 for name, usage in groups.usage().items()}
    return _report(found, memory)


def _await_up(gateway: Gateway, timeout_s: float = 180.0) -> None:
    """Wait for the first good answer. Raises RuntimeError at the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            asyncio.run(_sequential(gateway, False, 1))
            return
        except (RuntimeError, aiohttp.ClientError) as error:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"Gateway '{gateway.name}' gives no answer: {error}") from error
            time.sleep(0.5)


def _report(found: dict[tuple[str, str], Measured], memory: dict[str, float]) -> Report:
    rows, results, bars = [], {}, []
    for (name, form), sample in found.items():
        base = found["direct", form]
        added = [median(a) - median(b) for a, b in zip(sample.ms, base.ms, strict=True)]
        flat, flat_base = np.concatenate(sample.ms), np.concatenate(base.ms)
        row = {
            "added_p50_ms": median(added),
            "added_p50_spread_ms": interval(added)[1],
            "added_p99_ms": float(np.quantile(flat, 0.99) - np.quantile(flat_base, 0.99)),
            "cpu_us": median(sample.cpu_us),
            "cpu_spread_us": interval(sample.cpu_us)[1],
            "open_p50_ms": float(np.quantile(sample.open_ms, 0.5)),
            "open_p99_ms": float(np.quantile(sample.open_ms, 0.99)),
        }
        results[f"{name} {form}"] = row
        rows.append((name, form, *row.values()))
    for form in ("json", "sse"):
        bars += _bars(found, form)
    headers = (
        "gateway",
        "form",
        "added p50 ms",
        "±",
        "added p99 ms",
        "CPU us",
        "±",
        "open p50 ms",
        "open p99 ms",
    )
    print_table(headers, rows, title="added to the mock, per request")
    print_table(("processes", "MB"), list(memory.items()), title="memory")
    return Report("gateway", tuple(bars), {"ways": results, "memory_mb": memory})


def _bars(found: dict[tuple[str, str], Measured], form: str) -> list[Any]:
    ours, theirs, bare = (found[name, form] for name in ("fastserve auto", "litellm", "bare ray serve"))
    base = [median(some) for some in found["direct", form].ms]
    against = [a / b for a, b in zip(ours.cpu_us, theirs.cpu_us, strict=True)]
    beside = [a / b for a, b in zip(ours.cpu_us, bare.cpu_us, strict=True)]
    faster = [(median(a) - d) / (median(b) - d) for a, b, d in zip(ours.ms, theirs.ms, base, strict=True)]
    added = [median(ours_ms) - direct for ours_ms, direct in zip(ours.ms, base, strict=True)]
    return [
        bar(
            f"gateway.cpu_over_litellm.{form}",
            median(against),
            "<=",
            CPU_OVER_LITELLM[form],
            interval(against)[1],
        ),
        bar(f"gateway.added_p50_over_litellm.{form}", median(faster), "<=", 1.0, interval(faster)[1]),
        bar(f"gateway.cpu_over_bare.{form}", median(beside), "<=", CPU_OVER_BARE, interval(beside)[1]),
        bar(f"gateway.added_p50_ms.{form}", median(added), "<=", ADDED_P50_MS, interval(added)[1]),
    ]
