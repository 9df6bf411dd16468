"""Writes to a store for ever and tells each id once it is acknowledged; test_store_kill kills it."""

from functools import partial
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
        operations = [
            partial(ledger.write_decisions, decisions=rows),
            partial(ledger.write_outcomes, records=outcomes),
        ]
        writes = [store.submit(operation) for operation in operations * 2]
        for write in writes:
            write.result()
        acknowledged.send(names)
