"""The durable part of the performance table: what is written to its store and read back as it is."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from deployments.metrics.meter import Meter
from deployments.records.records import EvaluationRecord, FeedbackRecord, PolicyEvent
from deployments.table.api import Transition
from deployments.table.errors import ConflictError, StorageUnavailableError
from deployments.table.state import read_rollout, save_rollout
from deployments.table.store import ledger
from deployments.table.store.store import Store
from policies.promotion.rollout import RolloutState

T = TypeVar("T")

FORGOTTEN: Final = "records forgotten"  # name of the change that a deletion leaves behind
KNOWN_WITHIN_S: Final = 0.7  # the time that a decision may take from the ingress to the store


class TableLog(ABC):
    """Records, artifacts and the rollout state; see TableApi for each method."""

    def __init__(self, store: Store, meter: Meter) -> None:
        self.store = store
        self._meter = meter
        self._artifacts: dict[str, str] = {}  # name -> revision
        self._rollout = RolloutState()
        self._unstored_until_s = 0.0  # monotonic: until then decisions are thought to wait outside the store

    @abstractmethod
    async def _ready(self) -> None:
        """Returns when the store may be used. Raises StorageUnavailableError."""

    @abstractmethod
    async def _must_lead(self) -> None:
        """Raises FencedError where another cluster on this store writes policy state."""

    @abstractmethod
    def _publish(self) -> None:
        """A snapshot is due, because something that it shows has changed."""

    async def evaluations(self, suite: str | None = None, model: str | None = None) -> list[EvaluationRecord]:
        """See TableApi."""
        return await self._read(lambda connection: ledger.read_evaluations(connection, suite, model))

    async def feedback(self, record: FeedbackRecord) -> str:
        """See TableApi."""
        deadline = time.monotonic() + KNOWN_WITHIN_S
        while True:
            verdict = await self._write(lambda connection: ledger.write_feedback(connection, record))
            if verdict == "unknown" and self._unstored_until_s > time.monotonic():
                raise StorageUnavailableError("Decisions wait for the store: the vote's may be among them.")
            if verdict == "new":
                self._meter.count("fastserve_votes", (record.metric,))
                self._meter.count("fastserve_vote_scores", (record.metric,), record.score)
            if verdict != "unknown" or time.monotonic() > deadline:
                return verdict
            await asyncio.sleep(KNOWN_WITHIN_S / 5)

    async def feedback_records(self, after_s: float) -> list[FeedbackRecord]:
        """See TableApi."""
        return await self._read(lambda connection: ledger.read_feedback(connection, after_s))

    async def transitions(self, after_s: float, limit: int) -> list[Transition]:
        """See TableApi."""
        return await self._read(lambda connection: ledger.read_transitions(connection, after_s, limit))

    async def transitions_of(self, decision_ids: list[str]) -> list[Transition]:
        """See TableApi."""
        return await self._read(lambda connection: ledger.read_transitions_of(connection, decision_ids))

    async def start_of_newest(self, count: int) -> float:
        """See TableApi."""
        return await self._read(lambda connection: ledger.start_of_newest(connection, count))

    async def forget(self, key_id: str, decision_id: str, by: str) -> dict[str, int]:
        """See TableApi."""
        if bool(key_id) == bool(decision_id):
            raise ValueError("Give a key id or a decision id, not both.")
        total: Counter[str] = Counter()
        while deleted := await self._write(lambda connection: ledger.forget(connection, key_id, decision_id)):
            total.update(deleted)
            if not any(deleted.values()):
                break
        await self.config_change(FORGOTTEN, {"by": by, "key_id": key_id, "deleted": dict(total)})
        return dict(total)

    async def put_artifact(self, name: str, revision: str, data: bytes) -> None:
        """See TableApi."""
        if name in self._artifacts:
            await self._must_lead()
        await self._write(lambda connection: ledger.write_artifact(connection, name, revision, data))
        self._artifacts[name] = revision
        self._publish()

    async def artifact(self, name: str) -> tuple[str, bytes]:
        """See TableApi."""
        found = await self._read(lambda connection: ledger.read_artifact(connection, name))
        if found is None:
            raise KeyError(f"Artifact '{name}' is not stored.")
        return found

    async def set_rollout(self, state: RolloutState) -> RolloutState:
        """See TableApi."""
        await self._must_lead()
        if not await self._write(lambda connection: save_rollout(connection, state)):
            self._rollout = await self._read(read_rollout)
            self._publish()
            raise ConflictError(
                f"The rollout is at revision {self._rollout.revision}, and the change was made to revision "
                f"{state.revision}: somebody else has changed it. Read it again."
            )
        self._rollout = replace(state, revision=state.revision + 1)
        self._publish()
        return self._rollout

    async def rollout(self) -> RolloutState:
        """See TableApi."""
        await self._ready()
        return self._rollout

    async def policy_event(self, event: PolicyEvent) -> None:
        """See TableApi."""
        await self._must_lead()
        await self._write(lambda connection: ledger.write_event(connection, event))
        self._meter.count("fastserve_policy_events", (event.kind,))

    async def policy_events(self) -> list[PolicyEvent]:
        """See TableApi."""
        return await self._read(ledger.read_events)

    async def config_change(self, name: str, detail: dict[str, Any]) -> None:
        """See TableApi."""
        await self._write(lambda connection: ledger.write_config_change(connection, name, detail))

    async def config_changes(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        """See TableApi."""
        return await self._read(lambda connection: ledger.read_config_changes(connection, name))

    async def _read(self, operation: Callable[[Connection], T]) -> T:
        await self._ready()
        return await self.store.read(operation)

    async def _write(self, operation: Callable[[Connection], T]) -> T:
        await self._ready()
        return await self.store.write(operation)
