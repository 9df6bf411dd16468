"""Records that tests of the store write, and what is stored of them."""

from concurrent.futures import Future

from sqlalchemy import Connection

from deployments.records.leases import Spent
from deployments.records.records import (
    DecisionRecord,
    EvaluationRecord,
    FeedbackRecord,
    OutcomeRecord,
    PolicyEvent,
)
from deployments.records.report import decision_row
from deployments.table.store import ledger, money
from deployments.table.store.store import Store
from policies.outcome import Outcome, Status


def decision(name: str, created_s: float = 1.0) -> DecisionRecord:
    return DecisionRecord(
        name, created_s, "k", "auto", "", "m", "formula", 1.0, 0.0, 2**64 - 1, prompt=(1.5,)
    )


def outcome(name: str, finished_s: float = 1.0) -> OutcomeRecord:
    return OutcomeRecord(name, finished_s, "m", "r", Outcome(Status.OK, 0.1))


def submit(store: Store, *names: str) -> Future[int]:
    rows = [decision_row(decision(name)) for name in names]
    return store.submit(lambda connection: ledger.write_decisions(connection, rows))


def write(store: Store, *names: str) -> None:
    submit(store, *names).result()


def stored(store: Store) -> set[str]:
    found = store.submit(lambda connection: ledger.read_transitions(connection, 0.0, 10_000)).result()
    return {record.decision_id for record, _ in found}


def fill(connection: Connection) -> None:
    """A row in each table that `write_old_store` leaves empty."""
    graded = EvaluationRecord("s", "1", "item", "", "", "small", "1", 1.0)
    ledger.write_evaluations(connection, [graded])
    ledger.write_feedback(connection, FeedbackRecord("d-1", "k", "thumb", 1.0, 1.0))
    ledger.write_event(connection, PolicyEvent(7, 1.0, "promoted"))
    ledger.write_config_change(connection, "deploy", {"who": "me"})
    money.charge(connection, "i", [money.Charge(("key:k",), 60.0, Spent(1, 2, 3))])
