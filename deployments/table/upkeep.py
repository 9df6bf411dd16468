"""Periodic work on the table's store: checkpoints, retention, and how the store fares as metrics."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from deployments.metrics.meter import Meter
from deployments.table.errors import StorageUnavailableError
from deployments.table.statistics import TableStatistics
from deployments.table.store import ledger, money
from deployments.table.store.store import Store

CHECKPOINT_S: Final = 5.0
PRUNE_EVALUATIONS_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long decisions, outcomes and votes are kept: whichever comes first.

    Graded answers stay for `age_s` at least and for as long as no newer revision has replaced them.
    """

    age_s: float = 30 * 86_400.0
    rows: int = 200_000  # about 1 GB of decisions


class Upkeep:
    """Call `turn` every CHECKPOINT_S; `checkpoint` writes what the next life of the table starts from."""

    def __init__(
        self,
        store: Store,
        retention: Retention,
        meter: Meter,
        clock: Callable[[], float],
        checkpoint: Callable[[], Awaitable[None]],
    ) -> None:
        self._store, self._retention, self._meter, self._clock = store, retention, meter, clock
        self._checkpoint = checkpoint
        self._pruned_evaluations_s = float("-inf")

    async def turn(self) -> None:
        """A checkpoint, then what is past retention goes. Raises StorageUnavailableError."""
        try:
            await self._checkpoint()
            await self._prune()
        except StorageUnavailableError:
            self._meter.count("fastserve_degraded", ("table without store",))
            raise
        finally:
            self._meter.gauge("fastserve_store_available", (), float(not self._store.error))
            self._meter.gauge("fastserve_store_alarms", (), len(self._store.alarms))

    def measure(self, statistics: TableStatistics, leads: bool) -> None:
        """Gauges of what the table has counted, and whether it writes policy state."""
        self._meter.gauge("fastserve_store_writer", (), float(leads))
        for model, of_model in statistics.models.items():
            for status, count in of_model.statuses.items():
                self._meter.gauge("fastserve_table_requests", (model, status), count)

    async def _prune(self) -> None:
        limits, now = self._retention, self._clock()
        before_s = await self._store.read(lambda c: ledger.retention_start(c, now, limits.age_s, limits.rows))
        while await self._store.write(lambda connection: ledger.prune(connection, before_s)):
            await asyncio.sleep(0)  # little by little, so that other writes come between
        await self._store.write(lambda connection: money.prune_money(connection, now))
        if now - self._pruned_evaluations_s >= PRUNE_EVALUATIONS_S:
            self._pruned_evaluations_s = now
            await self._store.write(lambda c: ledger.prune_evaluations(c, now - limits.age_s))
