"""A replica's end of the table: its card once, its live row several times a second."""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final

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
AGAIN_S: Final = 30.0  # so long records are kept that were pushed: a table that is killed forgets them


class EngineMetrics:
    """Measures of one model's replica."""

    def __init__(self, meter: Meter, model: str) -> None:
        self.meter, self._labels = meter, (model,)

    def finished(self, record: EngineRecord) -> None:
        """The engine finished a request."""
        self.meter.observe("fastserve_queue_time", self._labels, record.queue_s)
        self.meter.observe("fastserve_engine_time", self._labels, record.e2e_s)
        self.meter.count("fastserve_cached_tokens", self._labels, record.cached_tokens)

    def spared(self) -> None:
        """The replica is slow beyond its limit, and the last one of its model: it is not replaced."""
        self.meter.count("fastserve_degraded", ("slow and the last replica",))


class Pusher:
    """Pushes what `read_row` returns, with the requests finished since; one push at a time.

    When the table has begun another life, registers again, reads the secret again, and pushes what the engine
    finished of late once more: by it the table ends requests whose ingress replica was lost.
    """

    def __init__(
        self,
        table: TableApi,
        model: str,
        read_row: Callable[[], ReplicaRow],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.secret = ""
        self.metrics = EngineMetrics(process_meter(), model)
        self.dropped = 0  # engine records lost while the table was away
        self._table, self._read_row = table, read_row
        self._card: ModelCard | None = None
        self._registered: ModelCard | None = None  # the card that the table has
        self._finished: deque[EngineRecord] = deque()
        self._pushed: deque[tuple[float, EngineRecord]] = deque(maxlen=CAPACITY)
        self._clock = clock
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

    def declare(self, card: ModelCard) -> None:
        """The model's card from now on; the next push, which is soon, registers it."""
        self._card = card
        self.touch()

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
        now_s = self._clock()
        while self._pushed and self._pushed[0][0] < now_s - AGAIN_S:
            self._pushed.popleft()
        for record in finished:
            if self._finished and self._finished[0] is record:
                self._finished.popleft()
        if self._boot_id not in ("", boot_id):
            self._finished.extendleft(record for _, record in reversed(self._pushed))
            self._pushed.clear()
        self._pushed.extend((now_s, record) for record in finished)
        card = self._card
        if card is not None and (boot_id != self._boot_id or card is not self._registered):
            await self._table.register_model(card)
            self._registered = card
        if boot_id != self._boot_id:
            self.secret = await self._table.secret()
            self._boot_id = boot_id

    async def _due(self) -> None:
        """Returns after PUSH_S, or at once when touched."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PUSH_S * random.uniform(0.9, 1.1)):
                await self._wake.wait()
        self._wake.clear()
