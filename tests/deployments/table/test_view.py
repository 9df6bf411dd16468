"""An ingress replica's view of the table: always there, never in the way, and nothing lost on the way."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.snapshot import ModelCard, ModelRow, Snapshot
from deployments.table import outbox as outbox_module
from deployments.table.errors import StorageUnavailableError, TableError
from deployments.table.view import TableView
from policies.outcome import Outcome, Status
from policies.scaling import Planned
from tests.virtual_time import virtual_time


def decision(name: str) -> DecisionRecord:
    return DecisionRecord(name, time.time(), "k", "auto", "", "m", "formula", 1.0, 0.0, 0)


def outcome(name: str) -> OutcomeRecord:
    return OutcomeRecord(name, time.time(), "m", "r", Outcome(Status.OK))


class Table:
    """The other end, which can be away, refuse, or answer and then lose the answer."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.loses_answers = False
        self.poison = ""
        self.stored: dict[str, DecisionRecord] = {}
        self.largest = 0
        self.in_flight: dict[str, int] = {}
        self.reports = 0
        self.now = Snapshot("life-1", 1, 0.0, {"m": row(own=2, other=3)})

    async def report_ingress(
        self,
        ingress: str,
        sequence: int,
        in_flight: dict[str, int],
        decisions: list[DecisionRecord],
        outcomes: list[OutcomeRecord],
        url: str = "",
        planned: dict[str, Planned] | None = None,
    ) -> int:
        self.reports += 1
        if self.error:
            raise self.error
        if any(record.decision_id == self.poison for record in decisions):
            raise ValueError("no database takes this")
        self.largest = max(self.largest, len(decisions))
        self.stored |= {record.decision_id: record for record in decisions}
        self.in_flight = in_flight
        if self.loses_answers:
            raise TableError("killed after the commit")
        return sequence

    async def snapshot(self, boot_id: str, version: int, timeout_s: float) -> Snapshot:
        await asyncio.sleep(0.01)
        if self.error:
            raise self.error
        return self.now

    async def secret(self) -> str:
        return f"secret of {self.now.boot_id}"


def row(own: int, other: int) -> ModelRow:
    shares = {"me": own, "other": other}
    return ModelRow(ModelCard("m", "simulated", "", 4096), in_flight=own + other, in_flight_by_ingress=shares)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
async def view(table: Table) -> AsyncIterator[TableView]:
    view = TableView(table, "me")
    await view.start(1.0)
    yield view
    table.error, table.loses_answers = None, False
    await view.close()


async def test_own_requests_count_now_and_others_as_reported(view: TableView) -> None:
    assert view.in_flight("m") == 3
    view.begin("m", "r1")
    view.begin("m", "r2")
    assert (view.in_flight("m"), view.replica_in_flight("r1")) == (5, 1)
    view.end("m", "r1")
    assert (view.in_flight("m"), view.replica_in_flight("r1")) == (4, 0)
    assert view.own_in_flight() == {"m": 1}


@pytest.mark.parametrize("error", [TableError("away"), StorageUnavailableError("disk full")])
async def test_records_wait_until_the_table_takes_them(
    table: Table, view: TableView, error: Exception
) -> None:
    table.error = error
    for i in range(1000):
        view.outbox.record_decision(decision(str(i)))
        view.outbox.record_outcome(outcome(str(i)))
    with pytest.raises(type(error)):
        await view.outbox.flush()
    assert (view.outbox.unsent, table.stored) == (2000, {})
    assert view.outbox.lag_s() > 0.0
    table.error = None
    await view.outbox.flush()
    assert (view.outbox.unsent, len(table.stored), view.outbox.lag_s()) == (0, 1000, 0.0)
    assert table.largest <= outbox_module.BATCH


async def test_a_lost_acknowledgement_means_the_same_report_again(table: Table, view: TableView) -> None:
    view.outbox.record_decision(decision("a"))
    table.loses_answers = True
    with pytest.raises(TableError):
        await view.outbox.flush()
    assert view.outbox.unsent == 1
    table.loses_answers = False
    await view.outbox.flush()
    assert (view.outbox.unsent, set(table.stored)) == (0, {"a"})


async def test_the_oldest_go_when_there_is_no_room(
    table: Table, view: TableView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "CAPACITY", 10)
    table.error = TableError("away")
    for i in range(15):
        view.outbox.record_decision(decision(str(i)))
    assert view.outbox.dropped == {"decision": 5}
    table.error = None
    await view.outbox.flush()
    assert set(table.stored) == {str(i) for i in range(5, 15)}


async def test_one_record_that_cannot_be_stored_does_not_stop_the_others(
    table: Table, view: TableView
) -> None:
    table.poison = "5"
    for i in range(12):
        view.outbox.record_decision(decision(str(i)))
    async with asyncio.timeout(60):
        while view.outbox.unsent:
            try:
                await view.outbox.flush()
            except ValueError:
                await asyncio.sleep(0)
    assert set(table.stored) == {str(i) for i in range(12)} - {"5"}
    assert view.outbox.dropped == {"refused": 1}


async def test_the_last_snapshot_stays_while_the_table_is_away(table: Table, view: TableView) -> None:
    table.error = TableError("away")
    await asyncio.sleep(0.2)
    assert view.snapshot.boot_id == "life-1"
    assert view.age_s() > 0.1
    assert not view.lagging


async def test_another_life_of_the_table_has_its_own_secret(table: Table, view: TableView) -> None:
    assert view.secret == "secret of life-1"
    table.now = Snapshot("life-2", 1, 0.0)
    async with asyncio.timeout(60):
        while view.snapshot.boot_id == "life-1":
            await asyncio.sleep(0.01)
    assert (view.snapshot.boot_id, view.secret) == ("life-2", "secret of life-2")


async def test_it_says_how_old_it_is_and_when_that_is_too_much(table: Table) -> None:
    now = 0.0
    view = TableView(table, "me", clock=lambda: now)
    assert view.lagging
    await view.start(1.0)
    await view.close()
    now = 1.0
    assert (view.age_s(), view.lagging) == (1.0, False)
    now = 3.0
    assert view.lagging


async def test_a_start_does_not_wait_for_ever(table: Table) -> None:
    table.error = TableError("away")
    view = TableView(table, "me")
    await view.start(0.05)
    assert view.age_s() == float("inf")
    table.error = None
    await view.close()


@virtual_time
async def test_an_idle_view_says_that_it_lives() -> None:
    table = Table()
    view = TableView(table, "i-1")
    await view.start()
    await asyncio.sleep(1.6)
    assert 1 <= table.reports <= 4
    view.begin("m", "r")
    await asyncio.sleep(0.5)
    assert table.in_flight == {"m": 1}
    await view.close()


async def test_who_wants_to_know_hears_of_each_snapshot() -> None:
    view = TableView(Table(), "i-1")
    versions: list[int] = []
    view.on_snapshot = lambda: versions.append(view.snapshot.version)
    await view.start()
    await view.close()
    assert versions
    assert versions[0] == 1


async def test_a_snapshot_that_nothing_can_be_prepared_for_is_no_silent_table(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise RuntimeError("no columns")

    view = TableView(Table(), "i-1")
    view.on_snapshot = fail
    await view.start()
    assert view.snapshot.version == 1
    await view.close()
    assert "Nothing could be prepared for snapshot 1" in caplog.text
    assert "silent" not in caplog.text
