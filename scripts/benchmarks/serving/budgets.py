"""Do budgets hold over several ingress replicas, with clients that leave, and through SIGKILL of all of them?

A simulated model at a raised price behind HAProxy and four ingress replicas. 64 clients, streams and plain in
turn, half of them leaving early, spend a key's budget of 1 USD until nobody is admitted any more. Then the
same with another key, while all ingress replicas and the table are killed in the middle. What was spent is
taken from the outcome log, and once more from what the clients saw.
"""

import argparse
import asyncio
import contextlib
import copy
import os
import random
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from deployments.keys.entries import KeyEntry
from deployments.keys.file import write_secret
from deployments.records.leases import NANO
from deployments.table.api import TableApi, Transition
from deployments.table.connect import find_table
from deployments.table.errors import StorageUnavailableError, TableError
from deployments.table.table import LEASE_S
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving.gateway import free_port
from scripts.benchmarks.serving.private_pool import usage_rows
from serve_app.access.spending import read
from serve_app.console.local_pool import LocalPool

MODEL: Final = "dear"
PRICE: Final = {"prompt_usd_per_mtok": 3.0, "completion_usd_per_mtok": 30.0}
SIMULATED: Final = {"decode_step_s": 0.05, "decode_step_per_sequence_s": 0.0, "mean_output_tokens": 40}
MAX_TOKENS: Final = 64
MESSAGES: Final = [{"role": "user", "content": "Tell me something that costs about a tenth of a cent."}]
QUIET_S: Final = 10.0  # without an admission: the budget is spent
SETTLED_S: Final = 25.0  # until what a killed replica left open has been ended for it
POLL_S: Final = 0.5
WINDOW: Final = "30d"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--ingresses", type=int, default=4)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--usd", type=float, default=1.0, help="budget of each of the two keys")
    parser.add_argument("--limit-s", type=float, default=300.0, help="longest time for one of them")


@dataclass(slots=True)
class Seen:
    """What the clients of one key saw."""

    answers: int = 0
    left: int = 0
    cut: int = 0  # by a kill
    refused: int = 0
    other: dict[str, int] = field(default_factory=dict)
    nano_usd: int = 0  # of what they received; a plain answer that did not come counts in full
    admitted_s: float = 0.0  # wall time of the last admission

    def charge(self, prompt: int, output: int) -> None:
        """Tokens that somebody must pay for."""
        prices = PRICE["prompt_usd_per_mtok"], PRICE["completion_usd_per_mtok"]
        self.nano_usd += round((prompt * prices[0] + output * prices[1]) * 1e-6 * NANO)


class Client:
    """One client, which sends one request after the other."""

    def __init__(self, number: int, url: str, key: str, seen: Seen, done: asyncio.Event) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._headers = {"authorization": f"Bearer {key}"}
        self._stream, self._leaves = number % 2 == 0, number % 4 < 2
        self._random = random.Random(number)
        self._seen, self._done = seen, done

    async def live(self, session: aiohttp.ClientSession) -> None:
        """Until the budget is spent for good."""
        while not self._done.is_set():
            tokens, broken = 0, False
            try:
                async with asyncio.timeout(self._patience_s()):
                    tokens = await self._one(session)
            except TimeoutError:
                self._seen.left += 1
                self._seen.charge(20, 0)
            except (aiohttp.ClientError, ConnectionError):
                broken = True
            if broken:
                self._seen.cut += 1
                await asyncio.sleep(0.5)
            elif not tokens:
                await asyncio.sleep(self._random.uniform(0.2, 0.6))

    def _patience_s(self) -> float:
        return self._random.uniform(0.3, 2.0) if self._leaves and not self._stream else 60.0

    async def _one(self, session: aiohttp.ClientSession) -> int:
        """Tokens of one answer, 0 where there was none. Raises what a connection that breaks raises."""
        body = {"model": MODEL, "messages": MESSAGES, "max_tokens": MAX_TOKENS, "stream": self._stream}
        seen = self._seen
        async with session.post(self._url, json=body, headers=self._headers) as response:
            if response.status != 200:
                seen.refused += response.status == 429
                if response.status != 429:
                    seen.other[str(response.status)] = seen.other.get(str(response.status), 0) + 1
                return 0
            seen.admitted_s = time.time()
            return await (self._read(response) if self._stream else self._whole(response))

    async def _whole(self, response: aiohttp.ClientResponse) -> int:
        usage = (await response.json())["usage"]
        self._seen.answers += 1
        self._seen.charge(usage["prompt_tokens"], usage["completion_tokens"])
        return int(usage["completion_tokens"])

    async def _read(self, response: aiohttp.ClientResponse) -> int:
        """The events of a stream; every second client leaves in the middle."""
        most = self._random.randint(1, 30) if self._leaves else MAX_TOKENS
        tokens = 0
        try:
            async for line in response.content:
                tokens += line.startswith(b"data:") and b'"content"' in line and b'"role"' not in line
                if self._leaves and tokens >= most:
                    self._seen.left += 1
                    return tokens
            self._seen.answers += 1
            return tokens
        finally:
            self._seen.charge(20, tokens)


@dataclass(frozen=True, slots=True)
class Found:
    """One key's budget, spent."""

    seen: Seen
    log: list[Transition]
    killed: int
    took_s: float

    @property
    def nano_usd(self) -> int:
        """Of all outcomes."""
        return sum(round(record.outcome.cost_usd * NANO) for _, record in self.log if record)

    @property
    def before_last(self) -> int:
        """Nano-dollars of the outcomes that had ended when the last request was admitted."""
        last_s = max(decision.created_s for decision, _ in self.log)
        ended = (record for _, record in self.log if record and record.finished_s <= last_s)
        return sum(round(record.outcome.cost_usd * NANO) for record in ended)


def _config(folder: Path, port: int, ingresses: int) -> Path:
    """cluster.yaml with one simulated model in place of its pool."""
    document = yaml.safe_load(Path("cluster.yaml").read_text())
    document["http_options"]["port"] = port
    endpoint = copy.deepcopy(next(app for app in document["applications"] if app["name"] == "fastserve"))
    endpoint["args"] = {"num_cpus": 0.1, "drain_s": 5.0}
    endpoint["deployments"] = [{"name": "Ingress", "num_replicas": ingresses}]
    model = {
        "name": f"model-{MODEL}",
        "route_prefix": None,
        "import_path": "serve_app.app:build_model",
        "args": {
            "id": MODEL,
            "engine": "simulated",
            "num_cpus": 0.1,
            "simulated": {**SIMULATED, "max_sequences": 256},
        },
        "deployments": [
            {
                "name": "Model",
                "max_ongoing_requests": 256,
                "user_config": {"price": PRICE, "max_ongoing_requests": 256},
            }
        ],
    }
    document["applications"] = [endpoint, model]
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _victims() -> list[int]:
    """Process ids of this cluster's ingress replicas and of its table."""
    from ray.util.state import list_actors

    from deployments.table.names import NAME

    actors = list_actors(filters=[("state", "=", "ALIVE")], limit=1000)
    return [a.pid for a in actors if a.pid and a.name and (a.name == NAME or "#Ingress#" in a.name)]


async def _spent(table: TableApi, account: str) -> int | None:
    """Nano-dollars, as the table says; None while it is away."""
    try:
        return (await table.spent([account], WINDOW))[account].nano_usd
    except (TableError, StorageUnavailableError):
        return None


async def _watch(table: TableApi, account: str, seen: Seen, args: argparse.Namespace, kills: bool) -> int:
    """Until nobody was admitted for long enough. Returns how many processes were killed."""
    began_s, killed, killed_s = time.time(), 0, 0.0
    while time.time() - began_s < args.limit_s:
        await asyncio.sleep(POLL_S)
        spent = await _spent(table, account)
        if kills and not killed and spent is not None and spent >= 0.4 * args.usd * NANO:
            victims = _victims()
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            killed, killed_s = len(victims), time.time()
        quiet_s = time.time() - max(seen.admitted_s, began_s)
        resumed = seen.admitted_s > killed_s if killed else not kills
        if resumed and quiet_s > QUIET_S and time.time() - killed_s > LEASE_S + 2 * QUIET_S:
            break
    return killed


async def _spend(
    url: str, key: str, account: str, table: TableApi, args: argparse.Namespace, kills: bool
) -> Found:
    seen, done, began_s = Seen(), asyncio.Event(), time.time()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        clients = [Client(number, url, key, seen, done).live(session) for number in range(args.clients)]
        running = [asyncio.create_task(client) for client in clients]
        killed = await _watch(table, account, seen, args, kills)
        took_s = time.time() - began_s
        done.set()
        await asyncio.gather(*running)
    await asyncio.sleep(SETTLED_S if kills else 3.0)
    log = [pair async for pair in read(table, began_s - 1.0) if f"key:{pair[0].key_id}" == account]
    return Found(seen, log, killed, took_s)


def _said(rows: list[dict[str, Any]], key_id: str, name: str, scale: int = 1) -> int:
    return sum(round(row[name] * scale) for row in rows if row["key_id"] == key_id)


@contextlib.contextmanager
def _pool(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """The URL, and text and id of each key by name."""
    with tempfile.TemporaryDirectory(prefix="fastserve-budgets-") as name:
        folder = Path(name)
        keys: dict[str, tuple[str, str]] = {}
        entries: list[dict[str, Any]] = []
        for key in ("calm", "killed"):
            limits = {"budget": {"usd": args.usd, "window": WINDOW}}
            entries.append({"name": key, "key": f"fs-{secrets.token_urlsafe(24)}", "limits": limits})
            keys[key] = (entries[-1]["key"], KeyEntry.model_validate(entries[-1]).identity)
        write_secret(folder / "keys.yaml", yaml.safe_dump({"keys": entries}))
        environment = {"FASTSERVE_HOME": name, "FASTSERVE_STORE": f"sqlite:///{folder}/store.sqlite3"}
        with LocalPool(_config(folder, free_port(), args.ingresses), environment) as pool:
            pool.wait_with_bar()
            yield pool.base_url, keys


def run(args: argparse.Namespace) -> Report:
    """Spend both budgets, then compare the log, the command and the clients."""
    found, bars = {}, []
    with _pool(args) as (url, keys):
        table = find_table()
        for name, (text, key_id) in keys.items():
            account = f"key:{key_id}"
            found[name] = asyncio.run(_spend(url, text, account, table, args, name == "killed"))
        rows = usage_rows()
        whole = args.usd * NANO
        for name, one in found.items():
            key_id = keys[name][1]
            counted = asyncio.run(_spent(table, f"key:{key_id}")) or 0
            bars += [
                bar(f"{name}: spent by the log, share", one.nano_usd / whole, "<=", 1.02),
                bar(f"{name}: received by clients, share", one.seen.nano_usd / whole, "<=", 1.02),
                bar(f"{name}: spent before the last admission", one.before_last / whole, ">=", 0.95),
                bar(
                    f"{name}: `usage --json` against the log, nano-USD",
                    abs(_said(rows, key_id, "cost_usd", NANO) - one.nano_usd), "<=", 0,
                ),
                bar(f"{name}: the table's account, nano-USD off", abs(counted - one.nano_usd), "<=", 0),
            ]  # fmt: skip
    return Report("budgets", tuple(bars), {name: _result(one) for name, one in found.items()})


def _result(found: Found) -> dict[str, object]:
    codes: dict[str, int] = {}
    for _, record in found.log:
        code = "open" if record is None else record.outcome.error_code or record.outcome.status.value
        codes[code] = codes.get(code, 0) + 1
    seen = found.seen
    return {
        "requests": len(found.log),
        "outcomes": codes,
        "spent_usd": found.nano_usd / NANO,
        "clients": {
            "answers": seen.answers,
            "left": seen.left,
            "cut": seen.cut,
            "refused": seen.refused,
            "other": seen.other,
            "received_usd": seen.nano_usd / NANO,
        },
        "killed_processes": found.killed,
        "took_s": found.took_s,
    }
