"""What the ingress needs of the performance table: its own copy to read, and places to put what it did."""

from typing import Protocol

from deployments.records.records import DecisionRecord, OutcomeRecord
from serve_app.upstream.replicas import ReplicaView


class TablePort(ReplicaView, Protocol):
    """deployments.table.actor.TableView, as the endpoint sees it. Nothing here waits."""

    def begin(self, model: str, replica: str) -> None:
        """A request was sent there."""

    def end(self, model: str, replica: str) -> None:
        """It is finished."""

    def record_decision(self, record: DecisionRecord) -> None:
        """Take a decision to the log."""

    def record_outcome(self, record: OutcomeRecord) -> None:
        """Take an outcome to the log."""
