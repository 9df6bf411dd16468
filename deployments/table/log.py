"""The part of the performance table that is only its store: what was recorded, written and read as it is."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from deployments.records.records import (
    DecisionRecord,
    EvaluationRecord,
    FeedbackRecord,
    OutcomeRecord,
    PolicyEvent,
)
from deployments.table.store import ledger
from deployments.table.store.store import Store

T = TypeVar("T")

KNOWN_WITHIN_S: Final = 1.0


class TableLog(ABC):
    """Records by kind. Every method raises StorageUnavailableError while the store cannot be used."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @abstractmethod
    async def _ready(self) -> None:
        """Returns when the store may be used."""

    async def evaluations(self, suite: str | None = None, model: str | None = None) -> list[EvaluationRecord]:
        """Graded answers, oldest first."""
        return await self._read(lambda connection: ledger.read_evaluations(connection, suite, model))

    async def feedback(self, record: FeedbackRecord) -> str:
        """Stores a vote before it returns "new"; one vote a decision and metric.

        "same": sent before; "conflict": another score is there, and stays; "unknown": no such decision of
        this key, also not KNOWN_WITHIN_S later, as ingress replicas report only a few times a second;
        "cancelled": its client left before the end. Raises StorageUnavailableError.
        """
        await self._ready()
        deadline = time.monotonic() + KNOWN_WITHIN_S
        while True:
            verdict = await self.store.write(lambda connection: ledger.write_feedback(connection, record))
            if verdict != "unknown" or time.monotonic() > deadline:
                return verdict
            await asyncio.sleep(KNOWN_WITHIN_S / 5)

    async def feedback_records(self, after_s: float) -> list[FeedbackRecord]:
        """Votes received after `after_s`, oldest first."""
        return await self._read(lambda connection: ledger.read_feedback(connection, after_s))

    async def transitions(
        self, after_s: float, limit: int
    ) -> list[tuple[DecisionRecord, OutcomeRecord | None]]:
        """The decision log after `after_s`, oldest first, with the outcomes known by now."""
        return await self._read(lambda connection: ledger.read_transitions(connection, after_s, limit))

    async def transitions_of(
        self, decision_ids: list[str]
    ) -> list[tuple[DecisionRecord, OutcomeRecord | None]]:
        """These decisions, as far as they are kept, with the outcomes known by now."""
        return await self._read(lambda connection: ledger.read_transitions_of(connection, decision_ids))

    async def start_of_newest(self, count: int) -> float:
        """Wall time after which the newest `count` decisions were made; -inf where there are no more."""
        return await self._read(lambda connection: ledger.start_of_newest(connection, count))

    async def artifact(self, name: str) -> tuple[str, bytes]:
        """Revision and bytes. Raises KeyError for an unknown name."""
        found = await self._read(lambda connection: ledger.read_artifact(connection, name))
        if found is None:
            raise KeyError(f"Artifact '{name}' is not stored.")
        return found

    async def policy_event(self, event: PolicyEvent) -> None:
        """Stores a step of a policy version, once. Raises StorageUnavailableError."""
        await self._ready()
        await self.store.write(lambda connection: ledger.write_event(connection, event))

    async def policy_events(self) -> list[PolicyEvent]:
        """All steps, oldest first."""
        return await self._read(ledger.read_events)

    async def config_change(self, name: str, detail: dict[str, Any]) -> None:
        """Stores that something was configured anew. Raises StorageUnavailableError."""
        await self._ready()
        await self.store.write(lambda connection: ledger.write_config_change(connection, name, detail))

    async def _read(self, operation: Callable[[Connection], T]) -> T:
        await self._ready()
        return await self.store.read(operation)
