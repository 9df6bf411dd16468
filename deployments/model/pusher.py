"""A replica's end of the table: its card once, its live row several times a second."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from deployments.background import Background
from deployments.logger import get_logger
from deployments.metrics.meter import Meter, process_meter
from deployments.records.records import EngineRecord
from deployments.records.snapshot import ModelCard, ReplicaRow
from deployments.table.api import TableApi

logger = get_logger(__name__)

PUSH_S: Final = 0.15
BATCH: Final = 1_000
CAPACITY: Final = 20_000
BACKOFF_S: Final = 0.5


class EngineMetrics:
    """Measures of one model's replica."""

    def __init__(self, meter: Meter, model: str) -> None:
        self.meter, self._labels = meter, (model,)

    def finished(self, record: EngineRecord) -> None:
        """The engine finished a request."""
        self.meter.observe("fastserve_queue_time", self._labels, record.queue_s)
        self.meter.observe("fastserve_engine_time", self._labels, record.e2e_s)
        self.meter.count("fastserve_cached_tokens", self._labels, record.cached_tokens)


class Pusher:
    """Pushes what `read_row` returns, with the requests finished since; one push at a time.

    When the table has begun another life, registers again and reads the secret again.
    """

    def __init__(self, table: TableApi, card: ModelCard, read_row: Callable[[], ReplicaRow]) -> None:
        self.secret = ""
        self.metrics = EngineMetrics(process_meter(), card.model)
        self.dropped = 0  # engine records lost while the table was away
        self._table, self._card, self._read_row = table, card, read_row
        self._finished: deque[EngineRecord] = deque()
        self._boot_id = ""
        self._background = Background("pusher", (BACKOFF_S, BACKOFF_S), self.metrics.meter)
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Registers and pushes once, which raises if the table is away; then goes on in the background."""
        await self.push()
        self._background.repeat("push", self.push, self._due)

    async def close(self) -> None:
        """Takes the replica out of the table and ends."""
        await self._background.close()
        try:
            await self._table.drop_replica(self._read_row().replica)
        except Exception as error:  # silence removes the row as well
            logger.warning("Replica was not taken out of the table: %s", error)

    async def amend(self, **changes: Any) -> None:
        """Changes fields of the card that only a loaded engine knows. Raises what the table raised."""
        self._card = replace(self._card, **changes)
        await self._table.register_model(self._card)

    def finished(self, record: EngineRecord) -> None:
        """A request that the engine finished: measured now, to be pushed soon."""
        self.metrics.finished(record)
        if len(self._finished) >= CAPACITY:
            self._finished.popleft()
            self.dropped += 1
        self._finished.append(record)

    def touch(self) -> None:
        """Pushes now rather than at the next turn: the state changed."""
        self._wake.set()

    async def push(self) -> None:
        """One push. Raises what the table raised; finished requests are then kept for the next."""
        finished = [self._finished[i] for i in range(min(BATCH, len(self._finished)))]
        boot_id = await self._table.push_replica(self._read_row(), finished)
        for record in finished:
            if self._finished and self._finished[0] is record:
                self._finished.popleft()
        if boot_id != self._boot_id:
            await self._table.register_model(self._card)
            self.secret = await self._table.secret()
            self._boot_id = boot_id

    async def _due(self) -> None:
        """Returns after PUSH_S, or at once when touched."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PUSH_S * random.uniform(0.9, 1.1)):
                await self._wake.wait()
        self._wake.clear()
