"""An ingress replica's records on their way to the table: sent several times a second until acknowledged."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from deployments.logger import get_logger
from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.table.api import TableApi
from deployments.table.errors import StorageUnavailableError, TableError
from policies.scaling import Planned

logger = get_logger(__name__)

HEARTBEAT_S: Final = 1.0  # a report at least this often, so that the table knows that the ingress lives
BATCH: Final = 250  # of each kind: a report must not keep the table's loop busy for long
CAPACITY: Final = 20_000  # records of each kind that wait at most


class Outbox:
    """Records leave it when the table has acknowledged them, so that a failed report is sent again.

    While the table is away the newest CAPACITY records of each kind wait; `dropped` counts the others, by
    kind. `in_flight` gives the requests under way by model, `url` where this replica listens, `planned`
    what dispatch has planned for each model since it began: all go with every report.
    """

    def __init__(
        self,
        table: TableApi,
        ingress: str,
        in_flight: Callable[[], dict[str, int]],
        clock: Callable[[], float] = time.monotonic,
        url: Callable[[], str] = str,
        planned: Callable[[], dict[str, Planned]] = dict,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._table, self._ingress, self._in_flight, self._clock = table, ingress, in_flight, clock
        self._url, self._planned = url, planned
        self._decisions: deque[DecisionRecord] = deque()
        self._outcomes: deque[OutcomeRecord] = deque()
        self._sequence, self._limit = 0, BATCH
        self._sending = asyncio.Lock()
        self._reported: tuple[dict[str, int], dict[str, Planned]] = {}, {}
        self._reported_at = float("-inf")

    @property
    def unsent(self) -> int:
        """Records not acknowledged yet."""
        return len(self._decisions) + len(self._outcomes)

    def lag_s(self) -> float:
        """Age of the oldest record that is not acknowledged, 0 where all are."""
        oldest = [self._decisions[0].created_s] if self._decisions else []
        oldest += [self._outcomes[0].finished_s] if self._outcomes else []
        return max(0.0, time.time() - min(oldest)) if oldest else 0.0

    def record_decision(self, record: DecisionRecord) -> None:
        """To be sent soon."""
        self._add(self._decisions, record, "decision")

    def record_outcome(self, record: OutcomeRecord) -> None:
        """To be sent soon."""
        self._add(self._outcomes, record, "outcome")

    async def report(self) -> None:
        """One turn of the periodic work: a flush where there is news, or silence has lasted HEARTBEAT_S."""
        silent_s = self._clock() - self._reported_at
        if self.unsent or self._counts() != self._reported or silent_s >= HEARTBEAT_S:
            await self.flush()

    def _counts(self) -> tuple[dict[str, int], dict[str, Planned]]:
        return self._in_flight(), self._planned()

    async def flush(self) -> None:
        """Send all records now; returns when they are durable. Raises what the table raised."""
        async with self._sending:
            for _ in range(1 + max(len(self._decisions), len(self._outcomes)) // self._limit):
                await self._send()

    async def close(self) -> None:
        """Send what is left; what the table does not take now is lost, and the log says so."""
        try:
            await self.flush()
        except Exception as error:  # the process ends, whatever the table raised
            logger.warning("%d records are lost at the end: %s", self.unsent, error)

    def _add(self, records: deque[Any], record: object, kind: str) -> None:
        if len(records) >= CAPACITY:
            records.popleft()
            self.dropped[kind] += 1
        records.append(record)

    async def _send(self) -> None:
        decisions = list(islice(self._decisions, self._limit))
        outcomes = list(islice(self._outcomes, self._limit))
        in_flight, planned = counts = self._counts()
        self._sequence += 1
        try:
            await self._table.report_ingress(
                self._ingress, self._sequence, in_flight, decisions, outcomes, self._url(), planned
            )
        except (TableError, StorageUnavailableError):
            raise
        except Exception as error:
            self._refused(decisions, outcomes, error)
            raise
        self._reported, self._reported_at = counts, self._clock()
        self._limit = min(BATCH, 2 * self._limit)
        _discard(self._decisions, decisions)
        _discard(self._outcomes, outcomes)

    def _refused(self, decisions: list[Any], outcomes: list[Any], error: Exception) -> None:
        """Halve the reports until the record that the table cannot take is alone, then drop it."""
        if self._limit == 1:
            logger.error("The table cannot take %s, %s: %s", decisions, outcomes, error)
            self.dropped["refused"] += len(decisions) + len(outcomes)
            _discard(self._decisions, decisions)
            _discard(self._outcomes, outcomes)
        self._limit = max(1, self._limit // 2)


def _discard(records: deque[Any], sent: list[Any]) -> None:
    """Remove the sent ones from the front; some may have been dropped for room meanwhile."""
    sent_ids = {id(record) for record in sent}
    while records and id(records[0]) in sent_ids:
        records.popleft()
