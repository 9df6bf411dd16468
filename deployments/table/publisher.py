"""Versions of the snapshot: built and encoded once each, handed to every listener that waits for it."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from deployments.records.snapshot import Snapshot

NOTIFY_S: Final = 0.02  # least time between two versions
QUIET_S: Final = 0.25  # the same where only times changed

encode_snapshot = msgspec.msgpack.Encoder().encode
decode_snapshot = msgspec.msgpack.Decoder(Snapshot).decode


class Publisher:
    """Long polls on one value. Changes within NOTIFY_S become one version; idle costs nothing."""

    def __init__(self, build: Callable[[int], Snapshot]) -> None:
        self.version = 0
        self.encoded = encode_snapshot(Snapshot("", 0, 0.0))
        self.listeners = 0
        self._first_valid = 1
        self._build = build
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._published = self._held = 0.0

    def hold(self, seconds: float) -> None:
        """No version before that time has passed."""
        self._held = asyncio.get_running_loop().time() + seconds

    def renew(self) -> None:
        """What was published is void, as after a change of the boot id: listeners wait for what follows."""
        self._first_valid = self.version + 1
        self.touch()

    def touch(self, quiet: bool = False) -> None:
        """Something changed: a version follows soon, a little later if the change is `quiet`."""
        loop = asyncio.get_running_loop()
        due = max(loop.time(), self._held, self._published + (QUIET_S if quiet else NOTIFY_S))
        if self._timer is not None and self._due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = loop.call_at(due, self._publish), due

    def _publish(self) -> None:
        self._timer = None
        self._published = asyncio.get_running_loop().time()
        self.version += 1
        self.encoded = encode_snapshot(self._build(self.version))
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """No version any more."""
        if self._timer is not None:
            self._timer.cancel()

    async def wait(self, version: int, timeout_s: float) -> bytes:
        """The present snapshot, encoded, once it is newer than `version`; at the timeout the same."""
        self.listeners += 1
        try:
            async with asyncio.timeout(timeout_s):
                while self.version < max(version + 1, self._first_valid):
                    await self._changed.wait()
        except TimeoutError:
            pass  # the same again
        finally:
            self.listeners -= 1
        return self.encoded
