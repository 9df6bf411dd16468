"""Several Ray nodes: one key, every proxy reaches every ingress, a node is killed, another one joins.

Two nodes, each with a loopback address and a home of its own, and a real `fastserve deploy` of simulated
models. Everything of the second node is killed while requests and streams run, then a third node joins.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from deployments.keys.file import write_secret
from deployments.records.snapshot import Snapshot
from deployments.table.api import TableApi
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving.ray_nodes import RayNode, door, free_ports
from serve_app.access.key_admin import KeyAdmin

BACK_S: Final = 30.0
KEYS_S: Final = 3.0
JOIN_S: Final = 90.0
STREAMS: Final = 12  # at each proxy when the node is killed
LATE: Final = "late"  # a resource that only nodes which can be lost have
_QUESTION: Final = [{"role": "user", "content": "Say something."}]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--requests", type=int, default=200, help="at each node's proxy (default 200)")


def run(args: argparse.Namespace) -> Report:
    """Start, measure, stop everything that was started."""
    with tempfile.TemporaryDirectory(prefix="fs-", dir="/tmp") as folder, _ground(Path(folder)) as ground:
        return asyncio.run(_measure(ground, args.requests))


@dataclass
class Ground:
    """The nodes and what reaches them."""

    folder: Path
    port: int
    nodes: list[RayNode]
    table: TableApi | None = None
    key: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    def url(self, node: int) -> str:
        """The proxy of a node."""
        return f"http://{self.nodes[node].address}:{self.port}"


@contextmanager
def _ground(folder: Path) -> Iterator[Ground]:
    port, gcs = free_ports(2)
    document = _document(port, folder)
    (folder / "cluster.yaml").write_text(yaml.safe_dump(document))
    (folder / "token").write_text(os.urandom(32).hex())
    (folder / "token").chmod(0o600)
    environment = {
        **document["controller_options"]["runtime_env"]["env_vars"],
        **door(folder, port),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_worker_niceness": "0",
    }
    os.environ.update(environment)
    nodes = [
        RayNode(number, folder, gcs, environment, {} if number == 1 else {LATE: 1.0}) for number in (1, 2, 3)
    ]
    ground = Ground(folder, port, nodes)
    try:
        for node in nodes[:2]:
            node.start()
        yield ground
    finally:
        for node in reversed(nodes):
            node.kill()


def _document(port: int, folder: Path) -> dict[str, Any]:
    """cluster.yaml's endpoint on every node, and three simulated models; `gamma` and the evaluator go to
    nodes that can be lost."""
    document: dict[str, Any] = yaml.safe_load(Path("cluster.yaml").read_text())
    suite = folder / "short.jsonl"
    suite.write_text("\n".join(Path("suites/customer-service.jsonl").read_text().splitlines()[:20]) + "\n")
    late = {"num_cpus": 0.05, "resources": {LATE: 0.1}}
    endpoint = next(app for app in document["applications"] if app["name"] == "fastserve")
    endpoint["args"] = {"num_cpus": 0.1, "evaluator": True}
    for entry in endpoint["deployments"]:
        if entry["name"] == "Ingress":
            entry |= {"num_replicas": 2, "max_replicas_per_node": 1}
        if entry["name"] == "Evaluator":
            pace = {"concurrency": 4, "user_share": 1.0}
            entry |= {"ray_actor_options": late, "user_config": {"suites": [str(suite)], "pace": pace}}
    endpoint["deployments"] = [one for one in endpoint["deployments"] if one["name"] != "Learner"]
    both = {"max_replicas_per_node": 1}
    return {
        **document,
        "proxy_location": "EveryNode",
        "http_options": {**document["http_options"], "port": port},
        "applications": [
            endpoint,
            _model("alpha", 2, both),
            _model("beta", 2, both),
            _model("gamma", 1, {"ray_actor_options": late}),
        ],
    }


def _model(name: str, replicas: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": f"model-{name}",
        "route_prefix": None,
        "import_path": "serve_app.app:build_model",
        "args": {
            "id": name,
            "engine": "simulated",
            "num_cpus": 0.05,
            "context_tokens": 4096,
            "simulated": {"decode_step_s": 0.01, "mean_output_tokens": 4000},
        },
        "deployments": [{"name": "Model", "num_replicas": replicas, **options}],
    }


async def _measure(ground: Ground, requests: int) -> Report:
    await asyncio.to_thread(_deploy, ground)
    ground.key = (ground.nodes[0].home / "key").read_text().strip()
    table = ground.table
    assert table is not None
    second = ground.nodes[1].address
    await _until(lambda s: len(s.ingresses) == 2 and _hosts(s, "gamma") == {second}, table, JOIN_S)
    found = ground.found
    found["answers"] = [await _ask_all(ground, node, requests) for node in (0, 1)]
    found["served by"] = await _served(ground)
    found["evaluator"] = await _evaluated()
    found["keys"] = await _change_keys(ground)
    await _kill(ground, table)
    await _join(ground, table)
    found["keys of other nodes"] = sum((node.home / "key").exists() for node in ground.nodes[1:])
    found["secrets in Ray's logs"] = _leaks(ground, await table.secret())
    return _report(found, requests)


def _deploy(ground: Ground) -> None:
    """The command itself; then this process becomes a driver."""
    command = [sys.executable, "-m", "serve_app", "deploy", str(ground.folder / "cluster.yaml")]
    command += ["--yes", "--no-engine-flags", "--timeout", "240", "--address", ground.nodes[0].gcs]
    began_s = time.monotonic()
    subprocess.run(command, check=True, stdout=sys.stderr)
    ground.found["deploy_s"] = time.monotonic() - began_s
    from deployments.table.connect import find_table
    from serve_app.console.connection import join

    join(ground.nodes[0].gcs)
    ground.table = find_table()


async def _until(condition: Callable[[Snapshot], bool], table: TableApi, limit_s: float) -> float:
    """Seconds until the table shows it. Raises TimeoutError."""
    began_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not condition(await table.snapshot("", 0, 1.0)):
            await asyncio.sleep(0.2)
    return time.monotonic() - began_s


def _hosts(snapshot: Snapshot, model: str) -> set[str]:
    """Addresses of the nodes on which a model is warm."""
    row = snapshot.models.get(model)
    replicas = row.replicas if row is not None else ()
    return {one.url.split("/")[2].rpartition(":")[0] for one in replicas if one.state == "warm"}


async def _ask(session: aiohttp.ClientSession, url: str, **body: Any) -> int:
    body = {"model": "auto", "messages": _QUESTION, "max_tokens": 8, **body}
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            await response.read()
            return response.status
    except (aiohttp.ClientError, TimeoutError):
        return 0


async def _change_keys(ground: Ground) -> dict[str, float]:
    """Seconds until the proxies of both nodes answer by what was done to the head's key file."""
    home = ground.nodes[0].home
    file = home / "keys.yaml"
    admin = KeyAdmin(file, home / "key")
    first, ground.key = ground.key, admin.create("web")
    took_s = {"created": await _answered(ground, 200)}
    admin.revoke("web")
    took_s["revoked"] = await _answered(ground, 401)
    ground.key = first
    file.chmod(0o644)
    took_s["closed by a wrong mode"] = await _answered(ground, 503)
    file.chmod(0o600)
    took_s["open again"] = await _answered(ground, 200)
    text = file.read_text()
    file.unlink()
    took_s["closed by a deleted file"] = await _answered(ground, 503)
    write_secret(file, text)
    took_s["restored"] = await _answered(ground, 200)
    return took_s


async def _answered(ground: Ground, status: int) -> float:
    """Seconds until ten requests in a row, at both proxies in turn, have this status."""
    began_s = time.monotonic()
    async with asyncio.timeout(60.0), _session(ground) as session:
        while True:
            since_s = time.monotonic() - began_s
            if {await _ask(session, ground.url(turn % 2)) for turn in range(10)} == {status}:
                return since_s
            await asyncio.sleep(0.05)


def _session(ground: Ground) -> aiohttp.ClientSession:
    headers = {"authorization": f"Bearer {ground.key}"}
    return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60.0))


async def _ask_all(ground: Ground, node: int, requests: int) -> dict[int, int]:
    """Statuses of requests at one node's proxy, four at a time."""
    statuses: Counter[int] = Counter()
    async with _session(ground) as session:

        async def ask(count: int) -> None:
            for _ in range(count):
                statuses[await _ask(session, ground.url(node))] += 1

        share, rest = divmod(requests, 4)
        await asyncio.gather(*(ask(share + (number < rest)) for number in range(4)))
    return dict(statuses)


async def _served(ground: Ground) -> dict[str, int]:
    """Requests that each proxy gave to each ingress replica, by the proxies' own count."""
    counts: Counter[str] = Counter()
    async with aiohttp.ClientSession() as session:
        for node in ground.nodes[:2]:
            async with session.get(f"http://127.0.0.1:{node.stats_port}/stats;csv") as response:
                for line in (await response.text()).splitlines():
                    cells = line.split(",")
                    if "Ingress" in cells[1]:
                        counts[f"proxy {node.number}, {cells[1][-8:]}"] += int(cells[7] or 0)
    return dict(counts)


async def _evaluated() -> dict[str, Any]:
    """The evaluator's own account, once it has finished a round."""
    from ray import serve

    handle = serve.get_deployment_handle("Evaluator", "fastserve")
    async with asyncio.timeout(240.0):
        while True:
            status: dict[str, Any] = await handle.status.remote()
            if status["rounds"] and status["done"] == status["planned"] > 0:
                return status
            await asyncio.sleep(1.0)


@dataclass
class Stream:
    """One stream and how it ended."""

    proxy: int
    decision: str = ""
    tokens: int = 0
    ended: str = "broken"  # "whole" or "error event"


async def _stream(session: aiohttp.ClientSession, ground: Ground, one: Stream) -> None:
    body = {"model": "auto", "messages": _QUESTION, "max_tokens": 1500, "stream": True}
    try:
        async with session.post(f"{ground.url(one.proxy)}/v1/chat/completions", json=body) as response:
            one.decision = response.headers.get("x-fastserve-decision-id", "")
            async for line in response.content:
                one.tokens += line.startswith(b"data: {")
                if b'"error"' in line:
                    one.ended = "error event"
                elif line.startswith(b"data: [DONE]") and one.ended == "broken":
                    one.ended = "whole"
    except (aiohttp.ClientError, TimeoutError):
        return


async def _kill(ground: Ground, table: TableApi) -> None:
    """Kill the second node under load at the first one's proxy, with streams at both."""
    before = await table.snapshot("", 0, 1.0)
    second = ground.nodes[1].address
    there = {r.replica for row in before.models.values() for r in row.replicas if f"//{second}:" in r.url}
    statuses: list[tuple[float, int]] = []
    streams = [Stream(proxy) for proxy in (0, 1) for _ in range(STREAMS)]
    async with _session(ground) as session:
        running = [asyncio.create_task(_stream(session, ground, one)) for one in streams]
        while not all(one.tokens for one in streams):
            await asyncio.sleep(0.05)
        killed_s = time.monotonic()
        processes = ground.nodes[1].kill()

        async def ask() -> None:
            began_s = time.monotonic() - killed_s
            statuses.append((began_s, await _ask(session, ground.url(0))))

        load = []
        while time.monotonic() - killed_s < BACK_S:
            load.append(asyncio.create_task(ask()))
            await asyncio.sleep(0.1)
        await asyncio.gather(*load, *running)
    outcomes = {d.decision_id: o for d, o in await table.transitions_of([one.decision for one in streams])}

    def had_part(one: Stream) -> bool:
        outcome = outcomes.get(one.decision)
        return one.proxy == 1 or outcome is None or outcome.replica in there

    lost = [one for one in streams if one.ended != "whole"]
    failed = [began_s for began_s, status in statuses if status != 200]
    after = await table.snapshot("", 0, 1.0)
    ground.found["kill"] = {
        "processes": processes,
        "requests": len(statuses),
        "failed": len(failed),
        "last failure after s": max(failed, default=0.0),
        "streams": dict(Counter(f"proxy {one.proxy + 1}: {one.ended}" for one in streams)),
        "lost without a part there": sum(not had_part(one) for one in lost),
        "ingresses left": len(after.ingresses),
    }


async def _join(ground: Ground, table: TableApi) -> None:
    """A third node takes the model that the second one had."""
    third = ground.nodes[2]
    await asyncio.to_thread(third.start)
    took_s = await _until(lambda s: third.address in _hosts(s, "gamma"), table, JOIN_S)
    async with _session(ground) as session:
        answered = await _ask(session, ground.url(0), model="gamma") == 200
    ingresses_s = await _until(lambda s: len(s.ingresses) == 2, table, JOIN_S)
    ground.found["join"] = {
        "model after s": took_s,
        "answered": answered,
        "second ingress after s more": ingresses_s,
    }
    ground.found["answers of the third"] = await _ask_all(ground, 2, 40)


def _leaks(ground: Ground, secret: str) -> int:
    """Lines of Ray's logs with the API key, the pool's secret or Ray's token."""
    secrets = [ground.key, secret, (ground.folder / "token").read_text()]
    count = 0
    for path in (ground.folder / "ray").rglob("*"):
        if path.is_file() and not path.is_symlink() and "/logs/" in str(path):
            text = path.read_text(errors="replace")
            count += sum(any(one in line for one in secrets) for line in text.splitlines())
    return count


def _report(found: dict[str, Any], requests: int) -> Report:
    answers, kill, join = found["answers"], found["kill"], found["join"]
    failures = sum(count for one in answers for status, count in one.items() if status != 200)
    served = found["served by"]
    bars = (
        bar(
            "requests at each of two proxies with one key",
            min(sum(one.values()) for one in answers),
            ">=",
            requests,
        ),
        bar("of them failed", failures, "<=", 0),
        bar(
            "pairs of proxy and ingress replica that were used", sum(n > 0 for n in served.values()), ">=", 4
        ),
        bar("evaluator rounds finished", found["evaluator"]["rounds"], ">=", 1),
        bar(
            "s until a changed key file holds everywhere",
            max(found["keys"].values()),
            "<=",
            KEYS_S,
        ),
        bar("requests at the first proxy that failed after the kill", kill["failed"], "<=", 0),
        bar("s from the kill to the last failure", kill["last failure after s"], "<=", BACK_S),
        bar("streams lost that had no part on the killed node", kill["lost without a part there"], "<=", 0),
        bar("s until a third node has taken the model", join["model after s"], "<=", JOIN_S),
        bar("the model answers there", join["answered"], ">=", 1),
        bar(
            "requests at the third proxy that failed", 40 - found["answers of the third"].get(200, 0), "<=", 0
        ),
        bar("nodes with a key of their own", found["keys of other nodes"], "<=", 0),
        bar("lines of Ray's logs with a secret", found["secrets in Ray's logs"], "<=", 0),
    )
    return Report("nodes", bars, found)
