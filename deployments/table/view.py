"""An ingress replica's local copy of the table."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from deployments.background import Background
from deployments.keys.key import Key
from deployments.logger import get_logger
from deployments.records.snapshot import Snapshot
from deployments.table.api import TableApi
from deployments.table.follow import Follower
from deployments.table.outbox import Outbox
from policies.scaling import Planned

logger = get_logger(__name__)

REPORT_S: Final = 0.2  # between two reports
LAGGING_S: Final = 2.0


class TableView:
    """Never blocks a request: reads are local, and `outbox` sends records in the background.

    While the table is away the last snapshot serves; `age_s` and `lagging` tell.
    """

    def __init__(
        self,
        table: TableApi,
        ingress: str,
        clock: Callable[[], float] = time.monotonic,
        url: Callable[[], str] = str,
    ) -> None:
        """`url` gives the base URL of the replica's own HTTP server, empty without one."""
        self.snapshot = Snapshot("", 0, 0.0)
        self.secret = ""
        self.planned: dict[str, Planned] = {}  # by model since the beginning; see dispatch.planner
        self.keys: dict[bytes, Key] = {}  # the API keys that hold, by SHA-256
        self._keys_revision = ""
        self.outbox = Outbox(table, ingress, self.own_in_flight, clock, url, lambda: dict(self.planned))
        self.on_snapshot: Callable[[], None] | None = None  # called after each new snapshot
        self.ingress = ingress  # the name under which the table knows this replica
        self._table, self._clock = table, clock
        self._follower = Follower(table)
        self._received = float("-inf")
        self._models: Counter[str] = Counter()
        self._replicas: Counter[str] = Counter()
        self._others: dict[str, int] = {}
        self._first = asyncio.Event()
        self._background = Background("table view")

    async def start(self, timeout_s: float = 10.0) -> None:
        """Start the background work; wait up to `timeout_s` for the first snapshot, and go on without."""
        self._background.repeat("snapshots", self._follow)
        self._background.repeat("reports", self.outbox.report, _report_pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._first.wait()

    async def close(self) -> None:
        """Send what is left and end."""
        await self._background.close()
        self._models.clear()
        await self.outbox.close()

    def check(self) -> None:
        """Raise RuntimeError where the background work has ended."""
        self._background.check()

    def age_s(self) -> float:
        """Seconds since the snapshot was received; infinite before the first."""
        return self._clock() - self._received

    @property
    def lagging(self) -> bool:
        """The table has been silent for so long that the snapshot may be wrong."""
        return self.age_s() > LAGGING_S

    @property
    def keys_problem(self) -> str:
        """Why no API key is accepted now; empty where those of `keys` are."""
        return self.snapshot.keys_problem or (
            "" if self._keys_revision else "The table has named no keys yet."
        )

    def own_in_flight(self) -> dict[str, int]:
        """Requests of this ingress replica under way, waiting ones too, by model."""
        return {model: count for model, count in self._models.items() if count}

    def in_flight(self, model: str) -> int:
        """Requests to a model over all ingress replicas, waiting ones too: own ones now, others' as last
        reported."""
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

    def count_waiting(self, model: str, change: int) -> None:
        """So many more requests wait in this ingress for a model: they count as in flight to it."""
        self._models[model] += change

    async def _follow(self) -> None:
        """Take the next snapshot; with another life of the table its secret, and keys where they changed."""
        snapshot = await self._follower.next()
        if snapshot.boot_id != self.snapshot.boot_id:
            self.secret = await self._table.secret()
        self._receive(snapshot)
        if snapshot.keys_revision not in ("", self._keys_revision):
            self._keys_revision, self.keys = await self._table.keys()

    def _receive(self, snapshot: Snapshot) -> None:
        self.snapshot, self._received = snapshot, self._clock()
        self._others = {
            model: row.in_flight - row.in_flight_by_ingress.get(self.ingress, 0)
            for model, row in snapshot.models.items()
        }
        self._first.set()
        if self.on_snapshot is not None:
            try:
                self.on_snapshot()
            except Exception:  # not the table's fault: the next request meets the cause and reports it
                logger.exception("Nothing could be prepared for snapshot %d.", snapshot.version)


async def _report_pause() -> None:
    await asyncio.sleep(REPORT_S * random.uniform(0.9, 1.1))
