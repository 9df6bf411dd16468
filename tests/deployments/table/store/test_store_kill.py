"""The process that writes the store is killed in mid-write, again and again: nothing acknowledged is lost."""

import multiprocessing
import random
import sqlite3
import time
from pathlib import Path

import pytest

from deployments.table.store import ledger
from deployments.table.store.store import Store
from tests.deployments.store_writer import write_for_ever

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.deployments.store_writer"])  # the imports once, not in each life


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
