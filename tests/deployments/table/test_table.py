"""The table as its callers see it, on a plain object without Ray."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.dispatch.columns import is_usable
from deployments.metrics.meter import MemoryMeter
from deployments.records.records import (
    DecisionRecord,
    EngineRecord,
    EvaluationRecord,
    FeedbackRecord,
    OutcomeRecord,
    PolicyEvent,
)
from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState, Snapshot
from deployments.table.errors import ConflictError, FencedError, StorageUnavailableError
from deployments.table.store import ledger
from deployments.table.store.store import Store
from deployments.table.table import Table
from deployments.table.upkeep import Retention
from deployments.table.view import TableView
from policies.outcome import Outcome, Status
from policies.promotion.rollout import RolloutState

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


async def test_a_vote_may_be_faster_than_the_report_of_its_decision(table: Table) -> None:
    vote = asyncio.create_task(table.feedback(FeedbackRecord("a", "k", "thumb", 1.0, 1.0)))
    await asyncio.sleep(0.1)
    await table.report_ingress("i", 1, {}, [decision("a")], [])
    assert await vote == "new"


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
    view.outbox.record_decision(decision("a"))
    view.outbox.record_outcome(outcome("a"))
    await view.outbox.flush()
    async with asyncio.timeout(60):
        while other.in_flight("small") != 1:
            await asyncio.sleep(0.02)
    assert view.in_flight("small") == 1
    assert view.outbox.unsent == 0
    assert view.secret == await table.secret()
    await view.close()
    await other.close()


async def test_evaluations_count_once_and_tell_accuracy(table: Table) -> None:
    await table.register_model(CARD)
    graded = [EvaluationRecord("s", "1", str(i), "sums", "", "small", "1", i % 2) for i in range(10)]
    assert await table.record_evaluations(graded) == 10
    assert await table.record_evaluations(graded) == 0
    assert await table.evaluations("s", "small") == graded
    assert await table.evaluations("other") == []
    async with asyncio.timeout(3.0):
        snapshot = await table.snapshot("", 0, 1.0)
        while not snapshot.models["small"].accuracy:
            snapshot = await table.snapshot(snapshot.boot_id, snapshot.version, 1.0)
    estimate = snapshot.models["small"].accuracy["sums"]
    assert (estimate.mean, estimate.count) == (0.5, 10)


async def test_engines_tell_what_the_ingress_cannot_know(table: Table) -> None:
    await table.register_model(replace(CARD, completion_usd_per_mtok=1e6))
    record = OutcomeRecord("a", time.time(), "small", "r1", Outcome(Status.OK, 0.1))
    await table.report_ingress("i", 1, {}, [decision("a")], [record])
    await table.push_replica(row(), [EngineRecord("a", output_tokens=3, queue_s=0.05)])
    async with asyncio.timeout(60):
        while (stored := (await table.transitions(0.0, 10))[0][1]) is None or stored.outcome.queue_s is None:
            await asyncio.sleep(0.02)
    assert (stored.outcome.output_tokens, stored.outcome.queue_s, stored.outcome.cost_usd) == (3, 0.05, 3.0)
    assert (await counted(table, 1)).models["small"].cost_usd == 3.0


async def test_artifacts_and_rollout_state_survive_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.sqlite3"
    table = Table(Store(url))
    await table.put_artifact("policy:7", "abc", b"\0weights")
    await table.set_rollout(RolloutState(active=7))
    event = PolicyEvent(7, 1.5, "promoted", {"gain": 0.1})
    for _ in range(2):
        await table.policy_event(event)
    await table.close()
    again = Table(Store(url))
    snapshot = await again.snapshot("", 0, 1.0)
    assert (snapshot.artifacts, snapshot.rollout) == ({"policy:7": "abc"}, RolloutState(active=7, revision=1))
    assert await again.artifact("policy:7") == ("abc", b"\0weights")
    assert await again.policy_events() == [event]
    with pytest.raises(KeyError, match="policy:8"):
        await again.artifact("policy:8")
    await again.close()


async def test_a_restart_takes_no_replica_out(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.sqlite3"
    table = Table(Store(url))
    await table.register_model(CARD)
    await table.push_replica(row("r1"), [])
    await table.push_replica(replace(row("r2"), state=ReplicaState.COLD), [])
    await table._checkpoint()
    await table.push_replica(row("r2"), [])
    await table.store.write(lambda connection: None)  # no close: the process is killed
    again = Table(Store(url))
    snapshot = await again.snapshot("", 0, 1.0)
    replicas = snapshot.models["small"].replicas
    assert [replica.replica for replica in replicas] == ["r1", "r2"]
    assert all(is_usable(replica, snapshot.taken_at_s) for replica in replicas)
    await table.close()
    await again.close()


async def test_serving_goes_on_without_a_store_and_it_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "not-mounted"
    table = Table(Store(f"sqlite:///{folder}/store.sqlite3"))
    await table.register_model(CARD)
    boot_id = await table.push_replica(row(), [])
    first = await table.snapshot("", 0, 3.0)
    assert [replica.replica for replica in first.models["small"].replicas] == ["r1"]
    with pytest.raises(StorageUnavailableError):
        await table.feedback(FeedbackRecord("a", "k", "thumb", 1.0, 1.0))
    with pytest.raises(StorageUnavailableError):
        await table.report_ingress("i", 1, {"small": 4}, [decision("a")], [outcome("a")])
    assert (await table.status())["store"]["error"]
    folder.mkdir()
    reported = 0
    async with asyncio.timeout(60):
        while not reported:  # the store is tried again now and then
            with contextlib.suppress(StorageUnavailableError):
                reported = await table.report_ingress("i", 1, {"small": 4}, [decision("a")], [outcome("a")])
            await asyncio.sleep(0.1)
    snapshot = await counted(table, 1)
    assert snapshot.models["small"].in_flight == 4
    assert [replica.replica for replica in snapshot.models["small"].replicas] == ["r1"]
    assert await table.push_replica(row(), []) != boot_id, "everybody registers again"
    assert (await table.status())["store"]["error"] == ""
    await table.close()


async def test_old_records_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.table.table.CHECKPOINT_S", 0.05)
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"), retention=Retention(rows=10))
    names = [str(i) for i in range(50)]
    await table.report_ingress("i", 1, {}, [decision(n) for n in names], [outcome(n) for n in names])
    async with asyncio.timeout(5.0):
        while len(await table.transitions(0.0, 100)) > 11:
            await asyncio.sleep(0.05)
    assert (await table.status())["statuses"] == {"small": {"ok": 50}}, "what was learned stays"
    await table.close()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=12), st.integers(0, 12))
async def test_reports_in_any_order_and_number_count_each_outcome_once(
    reports: list[list[int]], restart_after: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/store.sqlite3"
        table = Table(Store(url))
        await table.register_model(CARD)
        for number, names in enumerate(reports):
            if number == restart_after:
                table.store.close()  # no checkpoint: the process is killed
                await table._background.close()
                table = Table(Store(url))
            records = [str(name) for name in names]
            await table.report_ingress(
                "i", number, {}, list(map(decision, records)), list(map(outcome, records))
            )
        distinct = {name for names in reports for name in names}
        statuses = (await table.status())["statuses"].get("small", {})
        assert statuses == ({"ok": len(distinct)} if distinct else {})
        assert len(await table.transitions(0.0, 100)) == len(distinct)
        await table.close()


async def test_of_two_changes_to_one_rollout_state_the_later_one_fails(table: Table) -> None:
    read = await table.rollout()
    stored = await table.set_rollout(replace(read, active=1))
    with pytest.raises(ConflictError, match="revision 1, and the change was made to revision 0"):
        await table.set_rollout(replace(read, paused=True))
    assert await table.rollout() == stored
    assert (await table.set_rollout(replace(stored, paused=True))).revision == 2


async def test_of_two_clusters_on_one_store_one_writes_policy_state_until_it_ends(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.sqlite3"
    meter = MemoryMeter()
    first, second = Table(Store(url)), Table(Store(url), meter)
    await first.put_artifact("quality", "1", b"one")
    await first.set_rollout(RolloutState(active=1))
    await first.keep()
    await second.keep()
    assert await second.rollout() == await first.rollout(), "the one that waits follows"
    with pytest.raises(FencedError, match=r"written by process \d+ on .*: this cluster waits"):
        await second.set_rollout(replace(await second.rollout(), active=2))
    with pytest.raises(FencedError):
        await second.put_artifact("quality", "2", b"two")
    with pytest.raises(FencedError):
        await second.policy_event(PolicyEvent(2, 1.0, "promoted"))
    assert await second.report_ingress("i", 1, {}, [decision("a")], [outcome("a")]) == 1, "records are taken"
    status = (await second.status())["store"]
    assert (status["leads"], status["writer"]) == (False, (await first.status())["store"]["writer"])
    assert meter.value("fastserve_store_writer") == 0.0
    await first.close()
    await second.keep()
    assert (await second.set_rollout(replace(await second.rollout(), active=2))).revision == 2
    assert meter.value("fastserve_store_writer") == 1.0
    assert (await second.status())["statuses"] == {"small": {"ok": 1}}
    await second.close()


async def test_a_closed_table_has_no_background_work(tmp_path: Path) -> None:
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"))
    await table.snapshot("", 0, 1.0)
    await table.close()
    assert not table._background.running


async def test_what_is_forgotten_leaves_nothing_behind_but_that_it_was(table: Table, tmp_path: Path) -> None:
    names = [f"mine-{number}" for number in range(600)]  # more than one statement takes
    await table.report_ingress(
        "i", 1, {}, [*map(decision, names), decision("other", "k2")], [outcome("mine-0"), outcome("other")]
    )
    for name, key in (("mine-0", "k"), ("other", "k2")):
        vote = FeedbackRecord(name, key, "thumb", 1.0, time.time())
        assert await table.feedback(vote) == "new"
    assert await table.forget("k", "", "ann") == {"decisions": 600, "outcomes": 1, "feedback": 1}
    assert [d.decision_id for d, _ in await table.transitions(0.0, 1000)] == ["other"]
    assert await table.feedback(FeedbackRecord("mine-0", "k", "thumb", 1.0, 1.0)) == "unknown"
    assert await table.forget("", "other", "ann") == {"decisions": 1, "outcomes": 1, "feedback": 1}
    assert await table.feedback_records(0.0) == []
    audited = [detail for _, detail in await table.config_changes("records forgotten")]
    assert [(one["by"], one["key_id"], sum(one["deleted"].values())) for one in audited] == [
        ("ann", "k", 602),
        ("ann", "", 3),
    ]
    with pytest.raises(ValueError, match="not both"):
        await table.forget("k", "other", "ann")


async def test_a_vote_waits_with_its_decision_while_the_store_takes_none(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disk full: reads work, and a transaction that writes nothing ends well."""
    write = ledger.write_decisions

    def full(*_: object) -> int:
        raise StorageUnavailableError("disk full")

    await table.snapshot("", 0, 1.0)
    monkeypatch.setattr(ledger, "write_decisions", full)
    with pytest.raises(StorageUnavailableError):
        await table.report_ingress("i", 1, {}, [decision("a")], [])
    vote = FeedbackRecord("a", "k", "thumb", 1.0, 1.0)
    with pytest.raises(StorageUnavailableError, match="wait for the store"):
        await table.feedback(vote)
    monkeypatch.setattr(ledger, "write_decisions", write)
    await table.report_ingress("i", 2, {}, [decision("a")], [])
    assert await table.feedback(vote) == "new"
    assert await table.feedback(replace(vote, decision_id="nobody")) == "unknown"
