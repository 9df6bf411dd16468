"""The performance table's ceiling: outcomes and durable rows a second, snapshot propagation, memory.

Starts a Ray cluster of its own, with the table's actor and its store in a temporary folder. Senders and
listeners are Ray actors in processes of their own, as ingress replicas are.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec
import ray
from sqlalchemy import Connection
from tqdm import tqdm

from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.report import decision_row
from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState
from deployments.table.actor import get_or_create_table
from deployments.table.api import TableApi
from deployments.table.follow import Follower
from deployments.table.remote import remote_table
from deployments.table.store import ledger
from deployments.table.store.store import Store
from policies.observation import CALLER_FIELDS, MODEL_FIELDS, PROMPT_FIELDS
from policies.outcome import Outcome, Status
from policies.prompt.features import extract, pack
from scripts.benchmarks.report import Report, bar, interval
from serve_app.console.text_table import print_table

MODELS: Final = 8  # in a decision's observation
BATCH: Final = 250
PROMPT: Final = (
    "I ordered a pair of headphones last Tuesday, order 48213, and the left side makes no sound. I have "
    "tried another phone and another cable. Can I send them back although I have opened the box, who pays "
    "for the postage, and how long will it take until the money is on my card again?"
)
FEATURES: Final = pack(extract(PROMPT))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much is measured."""
    parser.add_argument("--rounds", type=int, default=8, help="rounds of each throughput (default 8)")
    parser.add_argument("--outcomes", type=int, default=10_000, help="outcomes a round (default 10000)")
    parser.add_argument("--senders", type=int, default=2, help="sending processes (default 2)")
    parser.add_argument("--listeners", type=int, default=8, help="listeners (default 8)")
    parser.add_argument("--changes", type=int, default=200, help="changes to propagate (default 200)")
    parser.add_argument("--tenants", type=int, default=1000, help="keys in the memory test (default 1000)")


def run(args: argparse.Namespace) -> Report:
    """Measures all four; each in a cluster that is stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        rows_s = _durable_rows(f"sqlite:///{folder}/rows.sqlite3", args.rounds, args.outcomes)
        os.environ["RAY_AUTH_MODE"] = "disabled"  # loopback only, for the time of the benchmark
        os.environ["FASTSERVE_STORE"] = f"sqlite:///{folder}/table.sqlite3"
        ray.init(
            address="local",
            _node_ip_address="127.0.0.2",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            namespace="fastserve",
        )
        actor = get_or_create_table()
        try:
            found = asyncio.run(_measure(actor, args))
        finally:
            ray.kill(actor)
            ray.shutdown()
    return _report({"durable rows/s": rows_s, **found})


async def _measure(actor: Any, args: argparse.Namespace) -> dict[str, Any]:
    table = remote_table(actor)
    empty_mb = await _memory_mb(actor)
    await _register(table, MODELS, 1)
    idle = await _propagation(actor, args.listeners, args.changes, "propagation, idle")
    rates, sizes = await _throughput(actor, args)
    load = asyncio.ensure_future(_background(table))
    busy = await _propagation(actor, args.listeners, args.changes, "propagation, 1,000 outcomes/s")
    load.cancel()
    await asyncio.gather(load, return_exceptions=True)
    pool_mb = await _pool_memory(actor, table, args.tenants)
    return {
        "outcomes/s": rates,
        "bytes a decision and outcome": sizes,
        "propagation ms, idle": idle,
        "propagation ms, 1000 outcomes/s": busy,
        "memory MB, empty": empty_mb,
        "memory MB, pool": pool_mb,
    }


def _report(found: dict[str, Any]) -> Report:
    outcomes, rows = interval(found["outcomes/s"]), interval(found["durable rows/s"])
    idle, busy = (_percentiles(found[f"propagation ms, {name}"]) for name in ("idle", "1000 outcomes/s"))
    print_table(
        ("measure", "mean or p50", "± 95 % or p95", "unit"),
        [
            ("outcomes into the actor, each with its decision, durable", *outcomes, "outcomes/s"),
            ("rows into the store, one process", *rows, "rows/s"),
            ("snapshot propagation, idle", *idle, "ms"),
            ("snapshot propagation, 1,000 outcomes/s", *busy, "ms"),
            ("store, a decision and its outcome", found["bytes a decision and outcome"], 0.0, "bytes"),
            ("memory, empty table", found["memory MB, empty"], 0.0, "MB"),
            ("memory, 64 models x 8 replicas x all keys", found["memory MB, pool"], 0.0, "MB"),
        ],
        title="performance table",
    )
    bars = (
        bar("table.outcomes_per_s", outcomes[0], ">=", 5_000, outcomes[1]),
        bar("table.propagation_p95_ms", max(idle[1], busy[1]), "<=", 50),
    )
    return Report("table", bars, found)


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=20)
    return cuts[9], cuts[18]


def decision(name: str, key: str) -> DecisionRecord:
    """A decision among MODELS models, of usual size."""
    models = tuple(f"model-{i}" for i in range(MODELS))
    return DecisionRecord(
        decision_id=name,
        created_s=time.time(),
        key_id=key,
        requested="auto",
        profile="default",
        model=models[hash(name) % MODELS],
        policy="learned@7",
        propensity=0.93,
        epsilon=0.02,
        seed=hash(name) & (2**64 - 1),
        models=models,
        rows=tuple(tuple(0.1 * i + j for j in range(len(MODEL_FIELDS))) for i in range(MODELS)),
        prompt=tuple(1.5 * i for i in range(len(PROMPT_FIELDS))),
        caller=tuple(1.0 for _ in CALLER_FIELDS),
        mask=(True,) * MODELS,
        probabilities=(0.93,) + (0.01,) * (MODELS - 1),
        features=FEATURES,
        prompt_hash=name[:16],
    )


def outcome(of: DecisionRecord) -> OutcomeRecord:
    """A usual outcome."""
    measured = Outcome(Status.OK, 0.1, 0.02, 1.3, 0.01, prompt_tokens=300, output_tokens=60, cost_usd=1e-4)
    return OutcomeRecord(of.decision_id, time.time(), of.model, f"{of.model}-r0", measured, ingress_s=0.001)


def _decisions(prefix: str, count: int, tenants: int = 100) -> list[DecisionRecord]:
    return [decision(f"{prefix}-{i}", f"key-{i % tenants}") for i in range(count)]


def _batches(decisions: list[DecisionRecord]) -> Iterable[list[DecisionRecord]]:
    return (decisions[i : i + BATCH] for i in range(0, len(decisions), BATCH))


def _durable_rows(url: str, rounds: int, count: int) -> list[float]:
    """Rows/s that one process can make durable: decisions and outcomes in batches, committed in groups."""
    store, rates = Store(url), []
    for number in tqdm(range(rounds), "durable rows"):
        decisions = _decisions(f"rows-{number}", count)
        start = time.perf_counter()
        writes = []
        for batch in _batches(decisions):
            writes.append(store.submit(partial(_write, batch, [outcome(one) for one in batch])))
        for write in writes:
            write.result()
        rates.append(2 * count / (time.perf_counter() - start))
    store.close()
    return rates


def _write(decisions: list[DecisionRecord], outcomes: list[OutcomeRecord], connection: Connection) -> None:
    ledger.write_decisions(connection, map(decision_row, decisions))
    ledger.write_outcomes(connection, outcomes)


class Sender:
    """An ingress replica that only reports."""

    def __init__(self, table: Any, name: str) -> None:
        self.table, self.name = remote_table(table), name
        self.decisions: list[DecisionRecord] = []

    def prepare(self, number: int, count: int) -> None:
        """Makes a round's records beforehand."""
        self.decisions = _decisions(f"{self.name}-{number}", count)

    async def send(self) -> None:
        """Sends them, each batch once the one before is durable, as TableView does."""
        for batch in _batches(self.decisions):
            await self.table.report_ingress(self.name, 0, {}, batch, [outcome(one) for one in batch])


def _process(kind: type, *args: object) -> Any:
    """An actor of its own process."""
    return ray.remote(kind).options(num_cpus=0).remote(*args)


async def _throughput(actor: Any, args: argparse.Namespace) -> tuple[list[float], float]:
    senders = [_process(Sender, actor, f"s{i}") for i in range(args.senders)]
    share, rates = args.outcomes // args.senders, []
    for number in tqdm(range(args.rounds), "outcomes into the actor"):
        await asyncio.gather(*(sender.prepare.remote(number, share) for sender in senders))
        start = time.perf_counter()
        await asyncio.gather(*(sender.send.remote() for sender in senders))
        rates.append(share * len(senders) / (time.perf_counter() - start))
    for sender in senders:
        ray.kill(sender)
    status = await remote_table(actor).status()
    stored = status["store"]["rows"]["decisions"]
    path = status["store"]["url"].removeprefix("sqlite:///")
    return rates, os.path.getsize(path) / stored


async def _register(table: TableApi, models: int, replicas: int) -> list[ReplicaRow]:
    rows = []
    for model in (f"model-{i}" for i in range(models)):
        await table.register_model(ModelCard(model, "simulated", "", 8192))
        for name in (f"{model}-r{i}" for i in range(replicas)):
            rows.append(ReplicaRow(name, model, f"http://127.0.0.1:1/{name}", ReplicaState.WARM, slots=64))
    await asyncio.gather(*(table.push_replica(row, []) for row in rows))
    return rows


class Listener:
    """An ingress replica that only follows the snapshot, as TableView does."""

    def __init__(self, table: Any) -> None:
        self.follower = Follower(remote_table(table))
        self.seen: dict[int, float] = {}  # value -> wall clock

    async def follow(self) -> None:
        """Notes when each value of the watched row came."""
        while True:
            snapshot = await self.follower.next()
            for row in snapshot.models["model-0"].replicas:
                if row.replica == "model-0-r0":
                    self.seen.setdefault(row.running, time.time())

    async def result(self) -> dict[int, float]:
        """What was seen."""
        return self.seen


async def _propagation(actor: Any, listeners: int, changes: int, title: str) -> list[float]:
    """Milliseconds from a replica's push to each listener's sight of it; one machine, one clock."""
    processes = [_process(Listener, actor) for _ in range(listeners)]
    for process in processes:
        process.follow.remote()
    await asyncio.gather(*(process.result.remote() for process in processes))
    await asyncio.sleep(1.0)
    table = remote_table(actor)
    row = ReplicaRow("model-0-r0", "model-0", "http://127.0.0.1:1", ReplicaState.WARM)
    pushed: dict[int, float] = {}
    for value in tqdm(range(1, changes + 1), title):
        pushed[value] = time.time()
        await table.push_replica(replace(row, running=value), [])
        await asyncio.sleep(0.1)
    seen = await asyncio.gather(*(process.result.remote() for process in processes))
    for process in processes:
        ray.kill(process)
    return [1000 * (times[value] - at) for times in seen for value, at in pushed.items() if value in times]


async def _background(table: TableApi) -> None:
    """1,000 outcomes a second, in reports at 5 Hz, until cancelled."""
    for number in itertools.count():
        batch = _decisions(f"background-{number}", 200)
        await table.report_ingress("background", number, {}, batch, [outcome(one) for one in batch])
        await asyncio.sleep(0.2)


async def _pool_memory(actor: Any, table: TableApi, tenants: int) -> float:
    """Resident memory of the actor once it knows 64 models, 8 replicas each, and outcomes of all keys."""
    await _register(table, 64, 8)
    for model in tqdm(range(64), "memory"):
        decisions = [
            msgspec.structs.replace(one, model=f"model-{model}")
            for one in _decisions(f"m-{model}", tenants, tenants)
        ]
        for batch in _batches(decisions):
            await table.report_ingress("memory", 0, {}, batch, [outcome(one) for one in batch])
    await table.snapshot("", 0, 1.0)
    return await _memory_mb(actor)


async def _memory_mb(actor: Any) -> float:
    return float(await actor.__ray_call__.remote(_resident_mb))


def _resident_mb(_actor: object) -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
