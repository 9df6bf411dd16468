"""What viewers of the dashboard cost: a simulated pool under load, with and without viewers, in turns.

Each viewer holds the stream of the view Now and asks for other views now and then, as a browser does; every
fifth one moves the slider of the view Trade-off too. The ingress's CPU and the callers' p50 with viewers are
held against those without, round by round.
"""

import argparse
import asyncio
import os
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
import numpy as np
import yaml
from tqdm import tqdm

from scripts.benchmarks.report import Report, bar, interval
from scripts.benchmarks.serving.processes import Groups
from serve_app.console.local_pool import LocalPool

MESSAGES: Final = [{"role": "user", "content": "Give me sixteen words about nothing in particular, please."}]
VIEWS: Final = ("decisions", "trade-off", "learning", "now")
SLIDER: Final = "counterfactual?accuracy={}&latency=1&cost=0"  # of every fifth viewer
LOOK_S: Final = 5.0  # between two views that a viewer asks for
_SETTLE_S: Final = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=6, help="pairs of a part without and one with viewers")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each part")
    parser.add_argument("--rate", type=float, default=30.0, help="requests/s")
    parser.add_argument("--viewers", type=int, default=20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(folder: Path, port: int) -> Path:
    """cluster.yaml with two simulated models in place of its pool."""
    document = yaml.safe_load(Path("cluster.yaml").read_text())
    document["http_options"]["port"] = port
    found = {app["name"]: app for app in document["applications"]}
    ingress, dashboard = found["fastserve"], found["dashboard"]
    ingress["args"] = {"num_cpus": 0.25}
    ingress["deployments"] = [d for d in ingress["deployments"] if d["name"] == "Ingress"]
    simulated = {"decode_step_s": 0.004, "mean_output_tokens": 16}
    models = [
        {
            "name": f"model-{name}",
            "route_prefix": None,
            "import_path": "serve_app.app:build_model",
            "args": {"id": name, "engine": "simulated", "num_cpus": 0.05, "simulated": simulated},
            "deployments": [{"name": "Model"}],
        }
        for name in ("alpha", "beta")
    ]
    document["applications"] = [ingress, dashboard, *models]
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


async def _load(url: str, key: str, rate: float, seconds: float) -> list[float]:
    """Latencies in ms from the time at which each request was due, Poisson arrivals."""
    due_s = time.perf_counter() + np.cumsum(
        np.random.default_rng(0).exponential(1 / rate, int(rate * seconds))
    )
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def at(when_s: float) -> float:
            await asyncio.sleep(max(when_s - time.perf_counter(), 0.0))
            body = {"model": "auto", "messages": MESSAGES, "max_tokens": 16}
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"The endpoint answered {answer.status}.")
            return 1e3 * (time.perf_counter() - when_s)

        return list(await asyncio.gather(*(at(when_s) for when_s in due_s)))


@asynccontextmanager
async def _viewers(url: str, key: str, count: int) -> AsyncIterator[None]:
    """So many open tabs."""
    headers = {"sec-fetch-site": "same-origin"}
    connector = aiohttp.TCPConnector(limit=0)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=jar) as session:
        if not count:
            yield
            return
        async with session.post(f"{url}/dashboard/sign-in", json={"key": key}) as answer:
            answer.raise_for_status()
        tabs = [asyncio.create_task(_tab(session, url, number, count)) for number in range(count)]
        yield
        for tab in tabs:
            tab.cancel()
        done = await asyncio.gather(*tabs, return_exceptions=True)
        broken = [one for one in done if not isinstance(one, asyncio.CancelledError)]
        if broken:
            raise RuntimeError(f"{len(broken)} viewers ended: {broken[0]!r}")


async def _tab(session: aiohttp.ClientSession, url: str, number: int, count: int) -> None:
    views = VIEWS if number % 5 else (SLIDER.format(number / count), *VIEWS)

    async def stream() -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with session.get(f"{url}/dashboard/api/stream?topics=status,now", timeout=timeout) as answer:
            async for _ in answer.content.iter_any():
                pass

    async def look() -> None:
        await asyncio.sleep(number / count * LOOK_S)
        while True:
            for view in views:
                async with session.get(f"{url}/dashboard/api/{view}") as answer:
                    answer.raise_for_status()
                    await answer.read()
                await asyncio.sleep(LOOK_S)

    await asyncio.gather(stream(), look())


async def _part(
    url: str, key: str, args: argparse.Namespace, viewers: int, groups: Groups
) -> dict[str, float]:
    async with _viewers(url, key, viewers):
        await asyncio.sleep(_SETTLE_S)
        before, began_s = groups.usage(), time.perf_counter()
        times_ms = await _load(url, key, args.rate, args.seconds)
        after, took_s = groups.usage(), time.perf_counter() - began_s
        spent = {name: (after[name].cpu_s - before[name].cpu_s) / took_s for name in after}
    return spent | {"p50_ms": median(times_ms), "memory_bytes": after["dashboard"].memory_bytes}


async def _freed_s(url: str, key: str) -> float:
    """Seconds until the dashboard no longer counts a tab that was closed."""
    async with _viewers(url, key, 1):
        await asyncio.sleep(_SETTLE_S)
    began_s = time.perf_counter()
    async with aiohttp.ClientSession(
        headers={"sec-fetch-site": "same-origin"}, cookie_jar=aiohttp.CookieJar(unsafe=True)
    ) as session:
        await session.post(f"{url}/dashboard/sign-in", json={"key": key})
        while time.perf_counter() - began_s < 30.0:
            async with session.get(f"{url}/dashboard/api/session") as answer:
                if (await answer.json())["status"]["viewers"] == 0:
                    break
            await asyncio.sleep(0.1)
    return time.perf_counter() - began_s


def _rounds(url: str, key: str, args: argparse.Namespace) -> dict[str, Any]:
    groups = Groups({"ingress": ["ServeReplica:fastserve:Ingress"], "dashboard": ["ServeReplica:dashboard"]})
    asyncio.run(_load(url, key, args.rate, _SETTLE_S))
    parts: dict[int, list[dict[str, float]]] = {0: [], args.viewers: []}
    for number in tqdm(range(args.rounds), unit="round"):
        order = sorted(parts) if number % 2 else sorted(parts, reverse=True)
        for viewers in order:
            parts[viewers].append(asyncio.run(_part(url, key, args, viewers, groups)))
    return {"without": parts[0], "with": parts[args.viewers], "freed_s": asyncio.run(_freed_s(url, key))}


def run(args: argparse.Namespace) -> Report:
    """Start the pool, measure in turns, compare."""
    key = os.environ["FASTSERVE_API_KEY"] = f"fs-{secrets.token_urlsafe(32)}"
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder:
        os.environ["FASTSERVE_HOME"] = folder
        with LocalPool(_config(Path(folder), _free_port())) as pool:
            pool.wait_with_bar()
            found = _rounds(pool.base_url, key, args)
    return _report(found)


def _report(found: dict[str, Any]) -> Report:
    bars = []
    for name, told in (("ingress", "CPU of the ingress"), ("p50_ms", "p50 of the callers")):
        pairs = zip(found["with"], found["without"], strict=True)
        change, half = interval([100 * (one[name] / other[name] - 1) for one, other in pairs])
        bars.append(bar(f"{told} with viewers, change in %, upper end", change + half, "<=", 10.0, half))
    cpu, half = interval([100 * one["dashboard"] for one in found["with"]])
    memory = max(one["memory_bytes"] for one in found["with"]) / 1e6
    bars += [
        bar("CPU of the dashboard, % of a core", cpu, "<=", 25.0, half),
        bar("memory of the dashboard, MB resident", memory, "<=", 300.0),
        bar("a closed tab frees its stream, s", found["freed_s"], "<=", 5.0),
    ]
    return Report("dashboard", tuple(bars), found)
