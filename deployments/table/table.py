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
from deployments.keys.key import Key
from deployments.keys.watch import KeyWatch
from deployments.logger import get_logger
from deployments.metrics.meter import MemoryMeter, Meter
from deployments.metrics.pool import PoolGauges
from deployments.records.leases import Ask, Grant, Spent
from deployments.records.records import DecisionRecord, EngineRecord, EvaluationRecord, OutcomeRecord
from deployments.records.report import Report, decision_row, decode_report
from deployments.records.snapshot import ModelCard, ModelRow, ReplicaRow, Snapshot, app_name
from deployments.scaling.demand import Demand
from deployments.scaling.settings import PlanSettings
from deployments.steady_clock import wall_s
from deployments.table.errors import FencedError, StorageUnavailableError
from deployments.table.join import EngineJoin
from deployments.table.keys import LOOK_S, TableKeys
from deployments.table.live import LiveRows
from deployments.table.log import TableLog
from deployments.table.orphans import ORPHAN_S, Orphans
from deployments.table.publisher import Publisher, decode_snapshot
from deployments.table.running import Running
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
from deployments.table.store import ledger, money
from deployments.table.store.store import Store
from deployments.table.upkeep import CHECKPOINT_S, Retention, Upkeep
from policies.scaling import Now, Planned

logger = get_logger(__name__)

GAUGES_S: Final = 2.0
HEARTBEAT_S: Final = 0.5  # a version at least this often, so that silence of replicas is seen
LEASE_S: Final = 30.0  # without renewal, as a holder that died leaves it; see Leases.USED_S
UNSTORED_S: Final = 10.0  # after a report that could not be stored: its ingress sends it again
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
        clock: Callable[[], float] = wall_s,
        key_watch: KeyWatch | None = None,
    ) -> None:
        self._meter = meter or MemoryMeter()
        super().__init__(store, self._meter)
        self.boot_id = uuid.uuid4().hex
        self._clock = clock
        self._born_s = clock()
        self._rows = LiveRows()
        self._demand = Demand()
        self._statistics = TableStatistics()
        self._join = EngineJoin(self._rows.cards)
        self._orphans = Orphans(self._join, self._rows.cards)
        self._running = Running(clock())
        self._secret = new_secret()
        self._keys = TableKeys(store, key_watch, self._meter)
        self._publisher = Publisher(self._build)
        self._restored = False
        self._closing = False
        self._leads, self._writer = False, ""  # whether policy state is written here, or else by whom
        self._upkeep = Upkeep(store, retention or Retention(), self._meter, clock, self._checkpoint)
        self._gauges = PoolGauges(self._meter)
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
            self._demand.forget(model)
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
        url: str = "",
        planned: dict[str, Planned] | None = None,
    ) -> int:
        """See TableApi."""
        rows = [decision_row(record) for record in decisions]
        return await self._report(Report(ingress, sequence, in_flight, rows, outcomes, url, planned or {}))

    async def report_encoded(self, data: bytes) -> int:
        """`report_ingress` from another process."""
        return await self._report(decode_report(data))

    async def _report(self, report: Report) -> int:
        self._start()
        self._demand.report(report.ingress, report.planned, self._clock())
        if self._rows.report(report.ingress, report.in_flight, self._clock(), report.url):
            self._publish()
        if report.decisions or report.outcomes:
            # shielded: what is committed must also be counted, even if the caller gives up
            await asyncio.shield(asyncio.ensure_future(self._record(report)))
        return report.sequence

    async def _record(self, report: Report) -> None:
        await self._ready()
        now = self._clock()
        joined = [self._join.outcome(record, now) for record in report.outcomes]
        reported = {record.decision_id: record for record in report.outcomes}

        def write(connection: Connection) -> tuple[list[OutcomeRecord], int]:
            ledger.write_decisions(connection, report.decisions)
            new = ledger.write_outcomes(connection, joined)
            charges = [money.charge_of(record, reported[record.decision_id]) for record in new]
            money.charge(connection, report.ingress, charges)
            return new, ledger.last_sequence(connection)

        try:
            new, last = await self.store.write(write)
        except StorageUnavailableError:
            self._unstored_until_s = time.monotonic() + UNSTORED_S
            raise
        self._unstored_until_s = 0.0
        for record in new:
            self._statistics.add(record, now)
            self._join.counted(record, now)
        self._statistics.sequence = last
        self._publisher.touch(quiet=True)

    async def lease(self, holder: str, asks: list[Ask]) -> list[Grant]:
        """See TableApi."""
        await self._ready()
        now = self._clock()
        is_young = now - self._born_s < LEASE_S  # nobody could renew while there was no table
        expired_s = float("-inf") if is_young else now - LEASE_S
        return await self.store.write(lambda c: money.Granting(c, holder, now, expired_s).answer(asks))

    async def spent(self, accounts: list[str], window: str) -> dict[str, Spent]:
        """See TableApi."""
        now = self._clock()
        return await self._read(lambda connection: money.spent(connection, accounts, window, now))

    async def replicas_wanted(
        self, app: str, settings: dict[str, Any], running: int, least: int, most: int
    ) -> int:
        """See TableApi."""
        self._start()
        goal, now = PlanSettings.model_validate(settings), self._clock()
        model = next((one for one in self._rows.cards if app_name(one) == app), None)
        row = self._rows.models({})[model] if model is not None else None
        return self._demand.wanted(app, goal, Now(running, least, most), row, now)

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

    async def keys(self) -> tuple[str, dict[bytes, Key]]:
        """See TableApi."""
        self._start()
        return self._keys.known.revision, dict(self._keys.known.keys)

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
            "keys": self._keys.status(),
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
            models=self._models(now),
            artifacts=self._artifacts,
            rollout=self._rollout,
            ingresses=self._rows.urls(),
            keys_revision=self._keys.known.revision,
            keys_problem=self._keys.known.problem,
        )

    def _models(self, now_s: float) -> dict[str, ModelRow]:
        read = {model: self._statistics.read(model, now_s) for model in self._rows.cards}
        return {model: self._demand.told(row, now_s) for model, row in self._rows.models(read).items()}

    def _amend(self, finished: list[EngineRecord], now_s: float) -> None:
        changes = [change for record in finished if (change := self._join.engine(record, now_s))]
        if changes:

            def write(connection: Connection) -> None:
                ledger.update_outcomes(connection, [new for _, new in changes])
                money.charge(connection, "", [money.change_of(old, new) for old, new in changes])

            self.store.submit(write)
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
        self._keys.adopt(state.keys)
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
        self._background.repeat("keys", self._look_at_keys, LOOK_S)
        self._background.repeat("upkeep", self.keep, CHECKPOINT_S)
        self._background.repeat("gauges", self.measure, GAUGES_S)

    async def _adopt_orphans(self) -> None:
        """End what ingress replicas that died have left open, as their engines saw it."""
        now = self._clock()
        if now - self._born_s < ORPHAN_S:  # who lives has not been heard yet
            return
        alive = self._rows.ingresses(now)
        for ingress, outcomes in (await self._orphans.ended(self.store, alive, now)).items():
            await self._record(Report(ingress, 0, {}, [], outcomes))

    async def _beat(self) -> None:
        self._rows.expire(self._clock())
        self._publish()

    async def _look_at_keys(self) -> None:
        if await self._keys.turn():
            self._publish()

    async def keep(self) -> None:
        """One turn of the periodic work on the store. Raises StorageUnavailableError."""
        await self._adopt_orphans()
        await self._upkeep.turn()
        await self._bill()
        self._upkeep.measure(self._statistics, self._leads)

    async def measure(self) -> None:
        """The gauges of the pool, which say how it is while the store is away too."""
        self._gauges.measure(self._models(self._clock()), self._rollout)

    async def _bill(self) -> None:
        """Note what the replicas have cost since the last look."""
        charges = self._running.charges(self._rows.models({}).values(), self._clock())
        if charges and self._leads:
            await self.store.write(lambda connection: money.charge(connection, "", charges))

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
