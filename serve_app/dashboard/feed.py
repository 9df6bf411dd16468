"""Reads the table for all viewers: one long poll, one look at the log, whoever and however many look."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from deployments.background import Background
from deployments.keys.key import Key
from deployments.records.snapshot import Snapshot
from deployments.table.api import TableApi
from deployments.table.follow import Follower
from serve_app.dashboard.log_tail import LogTail
from serve_app.dashboard.now import STEP_S, Rates, now
from serve_app.dashboard.streams import Hub

SNAPSHOT_S: Final = 1.0  # between two snapshots that are taken up
SILENT_S: Final = 5.0  # without a snapshot: the table is silent
NEWEST: Final = "newest"  # topics
NOW: Final = "now"
STATUS: Final = "status"
TOPICS: Final = frozenset({NEWEST, NOW, STATUS})


class Feed:
    """Keeps the newest snapshot and the newest decisions, and tells the hub."""

    def __init__(self, table: TableApi, most: int, hub: Hub, wall: Callable[[], float] = time.time) -> None:
        self.snapshot = Snapshot("", 0, 0.0)
        self.tail = LogTail(table, most, wall)
        self.problem = ""  # why the log cannot be read, for the viewers
        self.secret = ""  # of the pool; empty before the table gave it
        self.keys: Mapping[bytes, Key] = {}  # by SHA-256
        self._keys_revision = ""
        self._table = table
        self._rates = Rates()
        self.wall, self._hub = wall, hub
        self._follower = Follower(table)
        self._received_s = float("-inf")
        self._background = Background("dashboard", backoff_s=(1.0, 5.0))

    def start(self) -> None:
        """Begin to read."""
        self._background.repeat("snapshots", self.follow, SNAPSHOT_S)
        self._background.repeat("log", self.look, STEP_S)
        self._background.repeat("status", self._beat, SNAPSHOT_S)

    async def close(self) -> None:
        """End."""
        await self._background.close()

    def check(self) -> None:
        """Raise RuntimeError where the reading has ended."""
        self._background.check()

    @property
    def is_silent(self) -> bool:
        """Whether the table has not been heard for so long that the page may be wrong."""
        return self.wall() - self._received_s > SILENT_S

    @property
    def keys_problem(self) -> str:
        """Why no key is accepted now; empty where those of `keys` are."""
        return self.snapshot.keys_problem or (
            "" if self._keys_revision else "The table has named no keys yet."
        )

    def now(self) -> dict[str, object]:
        """What the view Now shows."""
        return now(self.snapshot, self.tail, self._rates, self.wall())

    def status(self) -> dict[str, object]:
        """Whether what is shown can be trusted."""
        return {
            "silent": self.is_silent,
            "heard_s": None if self._received_s < 0 else self._received_s,
            "log_problem": self.problem,
            "models": len(self.snapshot.models),
            "decisions": len(self.tail),
            "viewers": self._hub.viewers,
            "rollout": self.snapshot.rollout.revision,
        }

    async def follow(self) -> None:
        """Take up the next snapshot; with another life of the table its secret, and changed keys."""
        snapshot = await self._follower.next()
        if snapshot.boot_id != self.snapshot.boot_id or not self.secret:
            self.secret = await self._table.secret()
        if snapshot.keys_revision not in ("", self._keys_revision):
            self._keys_revision, self.keys = await self._table.keys()
        self.snapshot = snapshot
        self._received_s = self.wall()

    async def look(self) -> None:
        """Take up what is new in the log."""
        try:
            changed = await self.tail.read()
        except Exception as error:
            self.problem = str(error)
            raise
        self.problem = ""
        self._rates.add(self.wall(), self.tail.finished)
        if changed and self._hub.viewers:
            self._hub.publish(NEWEST, {"decisions": changed})

    async def _beat(self) -> None:
        """Tell the viewers, where there are any."""
        if self._hub.viewers:
            self._hub.publish(STATUS, self.status())
            self._hub.publish(NOW, self.now())
