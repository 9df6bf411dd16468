"""Writes to a store for ever and tells each id once it is acknowledged; test_store_kill kills it."""

from itertools import count
from multiprocessing.connection import Connection

from deployments import ledger
from deployments.records import DecisionRecord, OutcomeRecord
from deployments.store import Store
from deployments.table_report import decision_row
from policies.outcome import Outcome, Status


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
        writes = [
            write
            for _ in range(2)
            for write in (
                store.submit(lambda c, rows=rows: ledger.write_decisions(c, rows)),
                store.submit(lambda c, records=outcomes: len(ledger.write_outcomes(c, records))),
            )
        ]
        for write in writes:
            write.result()
        acknowledged.send(names)
