"""An ingress replica's end of the table: a local snapshot, and records on their way to the table."""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, Protocol

from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.snapshot import Snapshot
from deployments.table.store.store import StorageUnavailableError

logger = logging.getLogger(__name__)

POLL_S: Final = 5.0
REPORT_S: Final = 0.2
HEARTBEAT_S: Final = 1.0
BATCH: Final = 250  # of each kind: a report must not keep the table's loop busy for long
KEPT: Final = 20_000
BACKOFF_S: Final = (0.05, 1.0)
LAGGING_S: Final = 2.0


class TableError(RuntimeError):
    """The table cannot be reached now."""


class IngressTable(Protocol):
    """What a view needs of the table."""

    async def snapshot(self, boot_id: str, version: int, timeout_s: float) -> Snapshot: ...

    async def report_ingress(
        self,
        ingress: str,
        sequence: int,
        in_flight: dict[str, int],
        decisions: list[DecisionRecord],
        outcomes: list[OutcomeRecord],
    ) -> int: ...

    async def secret(self) -> str: ...


class TableView:
    """Never blocks a request: reads are local, records are sent in the background until acknowledged.

    While the table is away the last snapshot stays; `age_s` and `lagging` tell. Of records that cannot be
    sent, the newest KEPT of each kind are kept; `dropped` counts the others.
    """

    def __init__(
        self, table: IngressTable, ingress: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.snapshot = Snapshot("", 0, 0.0)
        self.secret = ""
        self.dropped: Counter[str] = Counter()  # by kind of record
        self.on_snapshot: Callable[[], None] | None = None  # called after each new snapshot
        self._table, self._ingress, self._clock = table, ingress, clock
        self._received = float("-inf")
        self._models: Counter[str] = Counter()
        self._replicas: Counter[str] = Counter()
        self._others: dict[str, int] = {}
        self._decisions: deque[DecisionRecord] = deque()
        self._outcomes: deque[OutcomeRecord] = deque()
        self._sequence, self._limit = 0, BATCH
        self._sending = asyncio.Lock()
        self._first = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._reported: dict[str, int] = {}
        self._reported_at = float("-inf")

    async def start(self, timeout_s: float = 10.0) -> None:
        """Starts the background work; waits up to `timeout_s` for the first snapshot, and goes on without."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._report())]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._first.wait()

    async def close(self) -> None:
        """Sends what is left and ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._models.clear()
        try:
            await self.flush()
        except Exception as error:
            logger.warning("Records lost at the end, %d decisions: %s", len(self._decisions), error)

    def age_s(self) -> float:
        """Seconds since the snapshot was received; infinite before the first."""
        return self._clock() - self._received

    @property
    def lagging(self) -> bool:
        """The table has been silent for so long that the snapshot may be wrong."""
        return self.age_s() > LAGGING_S

    @property
    def unsent(self) -> int:
        """Records not acknowledged yet."""
        return len(self._decisions) + len(self._outcomes)

    def lag_s(self) -> float:
        """Age of the oldest record that is not acknowledged, 0 where all are."""
        oldest = [self._decisions[0].created_s] if self._decisions else []
        oldest += [self._outcomes[0].finished_s] if self._outcomes else []
        return max(0.0, time.time() - min(oldest)) if oldest else 0.0

    def own_in_flight(self) -> dict[str, int]:
        """Requests of this ingress replica under way, by model."""
        return {model: count for model, count in self._models.items() if count}

    def in_flight(self, model: str) -> int:
        """Requests to a model over all ingress replicas: own ones now, others' as last reported."""
        return self._models[model] + self._others.get(model, 0)

    def replica_in_flight(self, replica: str) -> int:
        """This ingress replica's own requests to a replica."""
        return self._replicas[replica]

    def begin(self, model: str, replica: str) -> None:
        """A request goes out."""
        self._models[model] += 1
        self._replicas[replica] += 1

    def end(self, model: str, replica: str) -> None:
        """A request came back, however it ended."""
        self._models[model] -= 1
        self._replicas[replica] -= 1
        if self._replicas[replica] <= 0:
            del self._replicas[replica]  # replicas come and go

    def record_decision(self, record: DecisionRecord) -> None:
        """To be sent soon."""
        self._keep(self._decisions, record, "decision")

    def record_outcome(self, record: OutcomeRecord) -> None:
        """To be sent soon."""
        self._keep(self._outcomes, record, "outcome")

    async def flush(self) -> None:
        """Sends all records now; returns when they are durable. Raises what the table raised."""
        async with self._sending:
            for _ in range(1 + max(len(self._decisions), len(self._outcomes)) // self._limit):
                await self._send()

    def _keep(self, records: deque[Any], record: object, kind: str) -> None:
        if len(records) >= KEPT:
            records.popleft()
            self.dropped[kind] += 1
        records.append(record)

    async def _send(self) -> None:
        """One report. Records leave the buffer when acknowledged, so that a failed one is sent again."""
        decisions = list(islice(self._decisions, self._limit))
        outcomes = list(islice(self._outcomes, self._limit))
        in_flight = self.own_in_flight()
        self._sequence += 1
        try:
            await self._table.report_ingress(self._ingress, self._sequence, in_flight, decisions, outcomes)
        except (TableError, StorageUnavailableError):
            raise
        except Exception as error:
            self._refused(decisions, outcomes, error)
            raise
        self._reported, self._reported_at = in_flight, self._clock()
        self._limit = min(BATCH, 2 * self._limit)
        _discard(self._decisions, decisions)
        _discard(self._outcomes, outcomes)

    def _refused(self, decisions: list[Any], outcomes: list[Any], error: Exception) -> None:
        """Halves the reports until the record that the table cannot take is alone, then drops it."""
        if self._limit == 1:
            logger.error("The table cannot take %s, %s: %s", decisions, outcomes, error)
            self.dropped["refused"] += len(decisions) + len(outcomes)
            _discard(self._decisions, decisions)
            _discard(self._outcomes, outcomes)
        self._limit = max(1, self._limit // 2)

    async def _report(self) -> None:
        backoff_s = BACKOFF_S[0]
        while True:
            await asyncio.sleep(REPORT_S * random.uniform(0.9, 1.1))
            silent_s = self._clock() - self._reported_at
            if not self.unsent and self.own_in_flight() == self._reported and silent_s < HEARTBEAT_S:
                continue
            try:
                await self.flush()
                backoff_s = BACKOFF_S[0]
            except Exception as error:  # whatever ails the table, requests go on and this tries again
                logger.warning("Table does not take records (%d kept): %s", self.unsent, error)
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(BACKOFF_S[1], 2 * backoff_s)

    async def _listen(self) -> None:
        backoff_s = BACKOFF_S[0]
        while True:
            try:
                snapshot = await self._table.snapshot(self.snapshot.boot_id, self.snapshot.version, POLL_S)
                if snapshot.boot_id != self.snapshot.boot_id:
                    self.secret = await self._table.secret()
                self._receive(snapshot)
                backoff_s = BACKOFF_S[0]
            except (
                Exception
            ) as error:  # whatever ails the table, the last snapshot serves and this tries again
                logger.warning("Table is silent, snapshot is %.1f s old: %s", self.age_s(), error)
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(BACKOFF_S[1], 2 * backoff_s)

    def _receive(self, snapshot: Snapshot) -> None:
        self.snapshot, self._received = snapshot, self._clock()
        self._others = {
            model: row.in_flight - row.in_flight_by_ingress.get(self._ingress, 0)
            for model, row in snapshot.models.items()
        }
        self._first.set()
        if self.on_snapshot is not None:
            try:
                self.on_snapshot()
            except Exception:  # the table is well, and the next request meets what is wrong by itself
                logger.exception("Nothing could be prepared for snapshot %d.", snapshot.version)


def _discard(records: deque[Any], sent: list[Any]) -> None:
    """Removes the sent ones from the front; some may have been dropped for room meanwhile."""
    sent_ids = {id(record) for record in sent}
    while records and id(records[0]) in sent_ids:
        records.popleft()
