"""The performance table: what every ingress replica dispatches by and everything that learning reads."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from deployments.background import Background
from deployments.logger import get_logger
from deployments.metrics.meter import MemoryMeter, Meter
from deployments.records.records import DecisionRecord, EngineRecord, EvaluationRecord, OutcomeRecord
from deployments.records.report import DecisionRow, Report, decision_row, decode_report
from deployments.records.snapshot import ModelCard, ReplicaRow, Snapshot
from deployments.table.errors import FencedError, StorageUnavailableError
from deployments.table.join import EngineJoin
from deployments.table.live import LiveRows
from deployments.table.log import TableLog
from deployments.table.publisher import Publisher, decode_snapshot
from deployments.table.state import (
    TableState,
    new_secret,
    read_rollout,
    read_writer,
    restore,
    save_checkpoint,
    save_live,
    save_writer,
)
from deployments.table.statistics import TableStatistics
from deployments.table.store import ledger
from deployments.table.store.store import Store
from deployments.table.upkeep import CHECKPOINT_S, Retention, Upkeep

logger = get_logger(__name__)

HEARTBEAT_S: Final = 0.5  # a version at least this often, so that silence of replicas is seen
SETTLE_S: Final = 1.0  # after a restart that found no live rows: replicas push before the first version


class Table(TableLog):
    """A TableApi in one process on one event loop: one row a model and a replica.

    Live rows come from pushes and reports. Learned statistics count outcomes after they are durable, so
    that a restart, which reads the last checkpoint and the outcomes since, finds the same numbers.
    `boot_id` names one life of the table: who sees another one registers again.
    """

    def __init__(
        self,
        store: Store,
        meter: Meter | None = None,
        retention: Retention | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(store)
        self.boot_id = uuid.uuid4().hex
        self._meter = meter or MemoryMeter()
        self._clock = clock
        self._born_s = clock()
        self._rows = LiveRows()
        self._statistics = TableStatistics()
        self._join = EngineJoin(self._rows.cards)
        self._secret = new_secret()
        self._publisher = Publisher(self._build)
        self._restored = False
        self._closing = False
        self._leads, self._writer = False, ""  # whether policy state is written here, or else by whom
        self._upkeep = Upkeep(store, retention or Retention(), self._meter, clock, self._checkpoint)
        self._background = Background("table", (1.0, CHECKPOINT_S), self._meter)
        try:
            self._adopt(self.store.submit(self._restore).result())
            self._leads = self.store.try_lease()
        except StorageUnavailableError as error:
            logger.error("The table starts without its store: %s", error)

    async def register_model(self, card: ModelCard) -> None:
        """See TableApi."""
        self._start()
        if self._rows.register(card, self._clock()):
            self._publish()
            self._save_live()

    async def retire_model(self, model: str) -> None:
        """See TableApi."""
        self._start()
        if self._rows.retire(model):
            self._publish()
            self._save_live()

    async def push_replica(self, row: ReplicaRow, finished: list[EngineRecord]) -> str:
        """See TableApi."""
        self._start()
        now = self._clock()
        turned, changed = self._rows.push(row, now)
        self._publisher.touch(quiet=not changed)
        if turned:  # or the next life would take a replica for cold that is warm by now
            self._save_live()
        self._amend(finished, now)
        return self.boot_id

    async def drop_replica(self, replica: str) -> None:
        """See TableApi."""
        self._start()
        if self._rows.drop(replica):
            self._publish()
            self._save_live()

    async def report_ingress(
        self,
        ingress: str,
        sequence: int,
        in_flight: dict[str, int],
        decisions: list[DecisionRecord],
        outcomes: list[OutcomeRecord],
    ) -> int:
        """See TableApi."""
        rows = [decision_row(record) for record in decisions]
        return await self._report(Report(ingress, sequence, in_flight, rows, outcomes))

    async def report_encoded(self, data: bytes) -> int:
        """`report_ingress` from another process."""
        return await self._report(decode_report(data))

    async def _report(self, report: Report) -> int:
        self._start()
        if self._rows.report(report.ingress, report.in_flight, self._clock()):
            self._publish()
        if report.decisions or report.outcomes:
            # shielded: what is committed must also be counted, even if the caller gives up
            await asyncio.shield(asyncio.ensure_future(self._record(report.decisions, report.outcomes)))
        return report.sequence

    async def _record(self, decisions: list[DecisionRow], outcomes: list[OutcomeRecord]) -> None:
        await self._ready()
        now = self._clock()
        joined = [self._join.outcome(record, now) for record in outcomes]

        def write(connection: Connection) -> tuple[list[OutcomeRecord], int]:
            ledger.write_decisions(connection, decisions)
            new = ledger.write_outcomes(connection, joined)
            return new, ledger.last_sequence(connection)

        new, last = await self.store.write(write)
        for record in new:
            self._statistics.add(record, now)
            self._join.counted(record, now)
        self._statistics.sequence = last
        self._publisher.touch(quiet=True)

    async def snapshot(self, boot_id: str, version: int, timeout_s: float) -> Snapshot:
        """See TableApi."""
        return decode_snapshot(await self.snapshot_bytes(boot_id, version, timeout_s))

    async def snapshot_bytes(self, boot_id: str, version: int, timeout_s: float) -> bytes:
        """`snapshot`, encoded once for all listeners."""
        self._start()
        return await self._publisher.wait(version if boot_id == self.boot_id else 0, timeout_s)

    async def secret(self) -> str:
        """See TableApi."""
        self._start()
        return self._secret

    async def record_evaluations(self, records: list[EvaluationRecord]) -> int:
        """See TableApi."""
        new = await self._write(lambda connection: ledger.write_evaluations(connection, records))
        for record in new:
            self._statistics.of(record.model).add_score(record)
        self._publish()
        return len(new)

    async def status(self) -> dict[str, Any]:
        """See TableApi."""
        self._start()
        try:
            rows = await self._read(ledger.counts)
        except StorageUnavailableError:
            rows = {}
        return {
            "boot_id": self.boot_id,
            "pid": os.getpid(),
            "up_s": self._clock() - self._born_s,
            "version": self._publisher.version,
            "ingresses": self._rows.ingresses(self._clock()),
            "statuses": {model: dict(s.statuses) for model, s in self._statistics.models.items()},
            "store": {
                "url": self.store.name,
                "error": self.store.error,
                "alarms": self.store.alarms,
                "unreadable": self.store.unreadable,
                "rows": rows,
                "leads": self._leads,
                "writer": self._writer,
            },
        }

    async def close(self) -> None:
        """Writes a last checkpoint and ends."""
        self._closing = True
        await self._background.close()
        self._publisher.close()
        if self._restored:
            try:
                await self._checkpoint()
            except StorageUnavailableError as error:
                logger.warning("No last checkpoint: %s", error)
        self.store.close()

    def _build(self, version: int) -> Snapshot:
        now = self._clock()
        self._meter.count("fastserve_table_versions")
        return Snapshot(
            boot_id=self.boot_id,
            version=version,
            taken_at_s=now,
            models=self._rows.models(
                {model: self._statistics.read(model, now) for model in self._rows.cards}
            ),
            artifacts=self._artifacts,
            rollout=self._rollout,
        )

    def _amend(self, finished: list[EngineRecord], now_s: float) -> None:
        changes = [change for record in finished if (change := self._join.engine(record, now_s))]
        if changes:
            after = [record for _, record in changes]
            self.store.submit(lambda connection: ledger.update_outcomes(connection, after))
            for old, new in changes:
                self._statistics.of(new.model).amend(old, new, now_s)

    def _load_live(self, data: bytes) -> None:
        try:
            self._rows.load(data, self._clock())
        except msgspec.MsgspecError as error:  # of another version
            logger.error("Who was there before is not known, replicas register again: %s", error)

    def _save_live(self) -> None:
        if not self._leads:
            return
        data = self._rows.dump(self._clock())
        self.store.submit(lambda connection: save_live(connection, data))

    async def _ready(self) -> None:
        """Starts; restores first if the store could not be read when this life began."""
        self._start()
        if not self._restored:
            self._adopt(await self.store.write(self._restore))
            self._publisher.renew()

    def _restore(self, connection: Connection) -> TableState:
        return restore(connection, self._secret, self._clock())

    def _adopt(self, state: TableState, again: bool = False) -> None:
        """Takes over what earlier lives knew; everybody registers again, as the secret may have changed."""
        if self._restored and not again:  # by another call that waited for the store as well
            return
        self.boot_id = uuid.uuid4().hex
        self._secret, self._statistics = state.secret, state.statistics
        self._artifacts, self._rollout = state.artifacts, state.rollout
        if state.live is not None:
            self._load_live(state.live)
        self._restored = True

    def _start(self) -> None:
        """On the first call, when there is a running loop: the periodic work."""
        if self._background.running or self._closing:
            return
        if not self._restored or self.store.alarms:
            self._publisher.hold(SETTLE_S)
        self._background.repeat("heartbeat", self._beat, HEARTBEAT_S)
        self._background.repeat("upkeep", self.keep, CHECKPOINT_S)

    async def _beat(self) -> None:
        self._rows.expire(self._clock())
        self._publish()

    async def keep(self) -> None:
        """One turn of the periodic work on the store. Raises StorageUnavailableError."""
        await self._upkeep.turn()
        self._upkeep.measure(self._statistics, self._leads)

    async def _checkpoint(self) -> None:
        """For the next life. A table that waits for another cluster's follows what that one stores."""
        if not await self._lead():
            self._artifacts = await self.store.read(ledger.artifact_revisions)
            self._rollout = await self.store.read(read_rollout)
            return self._publish()
        statistics, live = self._statistics.dump(), self._rows.dump(self._clock())
        secret, rollout, writer = self._secret, self._rollout, self._writer

        def write(connection: Connection) -> None:
            save_checkpoint(connection, statistics, live, secret, rollout)
            save_writer(connection, writer)

        await self.store.write(write)

    async def _lead(self) -> bool:
        """Whether this table writes policy state; takes over, with all that is stored, where nobody does."""
        await self._ready()
        if not await self.store.acquire_lease():
            self._leads, self._writer = False, await self.store.read(read_writer)
            return False
        if not self._leads:
            self._adopt(await self.store.write(self._restore), again=True)
            self._publisher.renew()
        self._leads, self._writer = True, f"process {os.getpid()} on {socket.gethostname()}"
        return True

    async def _must_lead(self) -> None:
        if not await self._lead():
            raise FencedError(
                f"Store '{self.store.name}' is used by two clusters. Policy state is written by "
                f"{self._writer or 'the other one'}: this cluster waits until that one ends."
            )

    def _publish(self) -> None:
        self._publisher.touch()
