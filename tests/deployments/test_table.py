"""The table as its callers see it, on a plain object without Ray."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deployments.records import DecisionRecord, FeedbackRecord, OutcomeRecord
from deployments.snapshot import ModelCard, ReplicaRow, ReplicaState, Snapshot
from deployments.store import Store
from deployments.table import Table
from deployments.table_view import TableView
from policies.outcome import Outcome, Status

CARD = ModelCard("small", "simulated", "", 4096)


def decision(name: str, key: str = "k") -> DecisionRecord:
    return DecisionRecord(name, time.time(), key, "auto", "", "small", "formula", 1.0, 0.0, 2**64 - 1)


def outcome(name: str, status: Status = Status.OK) -> OutcomeRecord:
    return OutcomeRecord(name, time.time(), "small", "r1", Outcome(status, 0.1, 0.01, 0.5, output_tokens=7))


def row(name: str = "r1") -> ReplicaRow:
    return ReplicaRow(name, "small", "http://127.0.0.1:1", ReplicaState.WARM)


async def counted(table: Table, requests: int) -> Snapshot:
    """The first snapshot that counts so many requests."""
    snapshot = await table.snapshot("", 0, 1.0)
    async with asyncio.timeout(5.0):
        while sum(model.requests for model in snapshot.models.values()) < requests:
            snapshot = await table.snapshot(snapshot.boot_id, snapshot.version, 1.0)
    return snapshot


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[Table]:
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"))
    yield table
    await table.close()


async def test_a_push_reaches_a_listener(table: Table) -> None:
    first = await table.snapshot("", 0, 1.0)
    await table.register_model(CARD)
    await table.push_replica(row(), [])
    second = await table.snapshot(first.boot_id, first.version, 1.0)
    assert second.version > first.version
    assert [replica.replica for replica in second.models["small"].replicas] == ["r1"]


async def test_outcomes_are_counted_once_and_survive_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.sqlite3"
    table = Table(Store(url))
    await table.register_model(CARD)
    for _ in range(2):
        assert await table.report_ingress("i", 1, {"small": 2}, [decision("a")], [outcome("a")]) == 1
    secret = await table.secret()
    again = Table(Store(url))  # the first one is not closed: no checkpoint
    await again.report_ingress("i", 2, {}, [], [outcome("a"), outcome("b")])
    small = (await counted(again, 2)).models["small"]
    assert small.requests == 2
    assert small.ttft_s.p50 == pytest.approx(0.1)
    assert await again.secret() == secret
    assert [(d.decision_id, d.seed) for d, _ in await again.transitions(0.0, 10)] == [("a", 2**64 - 1)]
    await table.close()
    await again.close()


async def test_feedback_has_one_effect(table: Table) -> None:
    await table.report_ingress("i", 1, {}, [decision("a"), decision("c")], [outcome("c", Status.CANCELLED)])

    async def vote(name: str, score: float, key: str = "k") -> str:
        return await table.feedback(FeedbackRecord(name, key, "thumb", score, time.time()))

    assert await vote("a", 1.0, key="other") == "unknown"
    assert [await vote("a", s) for s in (1.0, 1.0, 0.0)] == ["new", "same", "conflict"]
    assert await vote("c", 1.0) == "cancelled"
    assert await vote("nobody", 1.0) == "unknown"
    assert [record.score for record in await table.feedback_records(0.0)] == [1.0]


async def test_a_view_follows_and_reports(table: Table) -> None:
    await table.register_model(CARD)
    view, other = TableView(table, "i1"), TableView(table, "i2")
    await view.start()
    await other.start()
    view.begin("small", "r1")
    view.record_decision(decision("a"))
    view.record_outcome(outcome("a"))
    await view.flush()
    await asyncio.sleep(0.1)
    assert view.in_flight("small") == other.in_flight("small") == 1
    assert view.unsent == 0
    assert view.secret == await table.secret()
    await view.close()
    await other.close()
