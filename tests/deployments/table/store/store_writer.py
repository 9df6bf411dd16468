"""Writes to a store for ever and tells each id once it is acknowledged; test_store_kill kills it."""

from functools import partial
from itertools import count
from multiprocessing.connection import Connection

from sqlalchemy import Connection as Transaction

from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.report import DecisionRow, decision_row
from deployments.table.store import ledger
from deployments.table.store.store import Store
from policies.outcome import Outcome, Status


def _write(rows: list[DecisionRow], outcomes: list[OutcomeRecord], connection: Transaction) -> None:
    ledger.write_decisions(connection, rows)
    ledger.write_outcomes(connection, outcomes)


def write_for_ever(url: str, prefix: str, acknowledged: Connection) -> None:
    """Each record is sent twice, as after a lost acknowledgement."""
    store = Store(url)
    store.submit(ledger.last_sequence).result()
    acknowledged.send([])
    for number in count():
        names = [f"{prefix}-{number}-{i}" for i in range(20)]
        decisions = [DecisionRecord(n, 1.0, "k", "auto", "", "m", "formula", 1.0, 0.0, 0) for n in names]
        rows = [decision_row(record) for record in decisions]
        outcomes = [OutcomeRecord(n, 1.0, "m", "r", Outcome(Status.OK)) for n in names]
        write = partial(_write, rows, outcomes)
        writes = [store.submit(write), store.submit(write)]
        for acknowledgement in writes:
            acknowledgement.result()
        acknowledged.send(names)
