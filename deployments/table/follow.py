"""Follows the table's snapshots by long polls."""

from typing import Final

from deployments.records.snapshot import Snapshot
from deployments.table.api import TableApi

POLL_S: Final = 5.0  # a poll without a newer snapshot returns after this long


class Follower:
    """Each `next` is one long poll; call it again and again, for example from a `Background`."""

    def __init__(self, table: TableApi) -> None:
        self._table = table
        self._boot_id, self._version = "", 0

    async def next(self) -> Snapshot:
        """The next snapshot, or the same one after POLL_S. Raises what the table raised."""
        snapshot = await self._table.snapshot(self._boot_id, self._version, POLL_S)
        self._boot_id, self._version = snapshot.boot_id, snapshot.version
        return snapshot
