"""The store keeps what it acknowledged, isolates what fails, and starts whatever it finds on the disk."""

import multiprocessing
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from deployments.records.records import DecisionRecord, EvaluationRecord, FeedbackRecord
from deployments.records.report import decision_row
from deployments.table.errors import StorageUnavailableError
from deployments.table.store import ledger
from deployments.table.store.store import Store
from tests.deployments.table.store.rows import decision, outcome, stored, submit, write
from tests.deployments.table.store.store_writer import write_for_ever


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{path}")
    yield store
    store.close()


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    record = decision("a")
    store.submit(lambda c: ledger.write_decisions(c, [decision_row(record)])).result()
    store.submit(lambda c: ledger.write_outcomes(c, [outcome("a")])).result()
    found = store.submit(lambda c: ledger.read_transitions(c, 0.0, 10)).result()
    assert found == [(record, outcome("a"))]


def test_the_file_and_its_journal_are_for_their_owner_alone(path: Path) -> None:
    path.touch(0o644)  # as a version before may have made it
    store = Store(f"sqlite:///{path}")
    write(store, "first")
    modes = {part.name: part.stat().st_mode & 0o777 for part in path.parent.glob(f"{path.name}*")}
    store.close()
    assert set(modes.values()) == {0o600}, modes


def test_writes_that_wait_together_share_commits(store: Store) -> None:
    write(store, "first")
    before = store.commits
    wait([submit(store, str(number)) for number in range(500)])
    assert len(stored(store)) == 501
    assert store.commits - before < 250


def test_only_the_guilty_operation_fails(store: Store) -> None:
    def guilty(connection: Connection) -> None:
        ledger.write_decisions(connection, [decision_row(decision("bad"))])
        raise KeyError("my own fault")

    def slow(_connection: Connection) -> None:
        time.sleep(0.1)  # so that the next three wait together

    store.submit(slow)
    first, bad, last = submit(store, "a"), store.submit(guilty), submit(store, "b")
    assert (first.result(), last.result()) == (1, 1)
    assert isinstance(bad.exception(), KeyError)
    assert stored(store) == {"a", "b"}


def test_a_full_disk_refuses_writes_until_there_is_room(store: Store) -> None:
    write(store, "before")
    pages = {"most": 60}

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages['most']}")

    assert store._engine is not None
    event.listen(store._engine, "begin", limit)
    with pytest.raises(StorageUnavailableError, match="full"):
        write(store, *(str(number) for number in range(10_000)))
    assert "full" in store.error
    assert "before" in stored(store)
    pages["most"] = 10_000
    write(store, "after")
    assert {"before", "after"} <= stored(store)
    assert store.error == ""


@pytest.mark.parametrize("broken", ["header", "middle"])
def test_a_corrupt_file_is_moved_aside_and_small_tables_are_read(path: Path, broken: str) -> None:
    store = Store(f"sqlite:///{path}")
    vote = FeedbackRecord("a", "k", "thumb", 1.0, 1.0)
    write(store, "a")
    store.submit(lambda c: ledger.write_feedback(c, vote)).result()
    write(store, *(str(i) for i in range(2_000)))
    store.close()
    with path.open("r+b") as file:
        file.seek(0 if broken == "header" else path.stat().st_size // 2)
        file.write(os.urandom(1024))
    store = Store(f"sqlite:///{path}")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert "a" not in stored(store)
            break
        except StorageUnavailableError:
            time.sleep(0.05)
    write(store, "new")
    assert stored(store) == {"new"}
    assert len(list(path.parent.glob("store.sqlite3.corrupt-*[0-9]"))) == 1
    assert "moved" in store.alarms[0]
    votes = store.submit(lambda c: ledger.read_feedback(c, 0.0)).result()
    assert votes == ([vote] if broken == "middle" else [])
    store.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_store_must_outlive_its_process(url: str) -> None:
    with pytest.raises(ValueError, match="names no file"):
        Store(url)


def test_what_is_old_or_too_much_goes(store: Store) -> None:
    rows = [decision_row(decision(str(i), created_s=float(i))) for i in range(1, 2001)]
    store.submit(lambda c: ledger.write_decisions(c, rows)).result()
    outcomes = [outcome(str(i), finished_s=float(i)) for i in range(1, 2001)]
    store.submit(lambda c: ledger.write_outcomes(c, outcomes)).result()

    def prune(age_s: float, most: int) -> int:
        before_s = store.submit(lambda c: ledger.retention_start(c, 2000.0, age_s, most)).result()
        while store.submit(lambda c: ledger.prune(c, before_s)).result():
            pass
        counts = store.submit(ledger.counts).result()
        assert counts["decisions"] == counts["outcomes"]
        return counts["decisions"]

    assert prune(1e9, 5000) == 2000
    assert prune(1000.0, 5000) == 1001
    assert prune(1e9, 100) == 101
    assert "2000" in stored(store)


def test_graded_answers_go_once_they_are_old_and_replaced(store: Store) -> None:
    def graded(item: str, revision: str, finished_s: float) -> EvaluationRecord:
        return EvaluationRecord("s", "1", item, "", "", "m", revision, 1.0, finished_s=finished_s)

    records = [graded("a", "old", 1.0), graded("b", "old", 5.0), graded("a", "new", 6.0)]
    store.submit(lambda c: ledger.write_evaluations(c, records)).result()
    assert store.submit(lambda c: ledger.prune_evaluations(c, 3.0)).result() == 1
    assert store.submit(lambda c: ledger.prune_evaluations(c, 99.0)).result() == 1
    left = store.submit(lambda c: ledger.read_evaluations(c, None, None)).result()
    assert [(record.item, record.model_revision) for record in left] == [("a", "new")]


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["tests.deployments.table.store.store_writer"]
)  # the imports once, not in each life


def kill_one(url: str, number: int, life_s: float) -> list[str]:
    """Starts a writer, kills it after `life_s` of writing; the ids that it had acknowledged."""
    ours, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=write_for_ever, args=(url, str(number), theirs))
    process.start()
    theirs.close()
    names: list[str] = ours.recv() + ours.recv()  # open, and the first acknowledgement
    time.sleep(life_s)
    process.kill()
    try:
        while True:
            names += ours.recv()
    except EOFError:  # also where the kill cut a message
        process.join()
    return names


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.long)])
def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "store.sqlite3"
    lives = random.Random(7)
    acknowledged: set[str] = set()
    for number in range(kills):
        acknowledged.update(kill_one(f"sqlite:///{path}", number, lives.uniform(0.005, 0.15)))
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(acknowledged) >= 20 * kills
    store = Store(f"sqlite:///{path}")
    found = store.submit(lambda c: ledger.read_transitions(c, 0.0, 10**6)).result()
    counts = store.submit(ledger.counts).result()
    store.close()
    ids = [decision.decision_id for decision, outcome in found if outcome is not None]
    assert acknowledged <= set(ids)
    assert len(ids) == len(set(ids)) == counts["outcomes"]
    assert store.alarms == []


async def test_nothing_of_a_request_stands_in_the_file_and_another_key_reads_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    store = Store(url, tmp_path / "a.key")
    record = DecisionRecord("d-1", 1.0, "k", "auto", "", "m", "formula", 1.0, 0.0, 1, features=b"PLANTED" * 9)
    row = decision_row(record)
    try:
        await store.write(lambda connection: ledger.write_decisions(connection, [row]))
        [(kept, _)] = await store.read(lambda connection: ledger.read_transitions(connection, 0.0, 9))
    finally:
        store.close()
    assert kept.features == b"PLANTED" * 9
    assert not any(b"PLANTED" in file.read_bytes() for file in tmp_path.iterdir())
    other = Store(url, tmp_path / "b.key")
    try:
        await other.write(lambda connection: None)
        assert await other.read(lambda connection: ledger.read_transitions(connection, 0.0, 9)) == []
    finally:
        other.close()
    assert other.unreadable == 1


async def test_a_key_file_open_to_others_makes_the_store_unavailable_and_says_why(
    tmp_path: Path,
) -> None:
    key_file = tmp_path / "store.key"
    key_file.touch(0o644)
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite3'}", key_file)
    try:
        with pytest.raises(StorageUnavailableError, match="mode 644"):
            await store.write(lambda connection: None)
    finally:
        store.close()


def test_a_write_that_has_read_before_is_not_refused_for_what_another_process_wrote_since(
    store: Store, path: Path
) -> None:
    other = Store(f"sqlite:///{path}")
    write(other, "first")
    has_read, may_write = threading.Event(), threading.Event()

    def read_then_write(connection: Connection) -> None:
        ledger.last_sequence(connection)
        has_read.set()
        assert may_write.wait(30.0)
        ledger.write_outcomes(connection, [outcome("first")])

    slow = store.submit(read_then_write)
    assert has_read.wait(30.0)
    theirs = submit(other, "second")
    wait([theirs], 0.3)  # without a lock it would be done by then, and the first refused
    may_write.set()
    slow.result()
    theirs.result()
    assert stored(store) == {"first", "second"}
    other.close()
