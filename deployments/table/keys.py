"""The pool's API keys as the table keeps them: the watch over their file, and what of them is durable."""

import asyncio
from dataclasses import dataclass

from sqlalchemy import Connection

from deployments.keys.watch import KeyWatch, KnownKeys
from deployments.logger import get_logger
from deployments.metrics.meter import Meter
from deployments.table.errors import StorageUnavailableError
from deployments.table.store import ledger
from deployments.table.store.store import Store

logger = get_logger(__name__)

LOOK_S = 0.5  # between two looks; a bad file closes the pool at the second


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """What a life of the table leaves of the keys."""

    first_key: str  # empty where none was made
    file_was_seen: bool  # from then on a key file that is missing was deleted


def read_stored_keys(connection: Connection) -> StoredKeys:
    """What is there; a first key that was sealed with a key that is lost counts as none."""
    first_key = ledger.read_sealed_state(connection, "first_key") or b""
    return StoredKeys(first_key.decode(), ledger.read_state(connection, "key_file_was_seen") is not None)


def store_first_key(connection: Connection, text: str) -> str:
    """Stores the first key, sealed; returns the one that holds, which may be another cluster's."""
    stored = read_stored_keys(connection).first_key
    if not stored:
        ledger.write_sealed_state(connection, "first_key", text.encode())
    return stored or text


def store_file_was_seen(connection: Connection) -> None:
    """From now on the key file must be there."""
    ledger.write_state(connection, "key_file_was_seen", b"1")


class TableKeys:
    """`turn` every LOOK_S. Without a watch, as in some tests, no keys are known."""

    def __init__(self, store: Store, watch: KeyWatch | None, meter: Meter) -> None:
        self._store, self._watch, self._meter = store, watch, meter
        self._noted = False  # that the store knows of the file
        if watch is not None:
            watch.look()

    @property
    def known(self) -> KnownKeys:
        """Which keys hold."""
        return self._watch.known if self._watch is not None else KnownKeys()

    def status(self) -> dict[str, object]:
        """For operators."""
        source = self._watch.source if self._watch is not None else "none"
        return {"source": source, "count": len(self.known.keys), "problem": self.known.problem}

    def adopt(self, stored: StoredKeys) -> None:
        """Take over what the store knew."""
        self._noted = stored.file_was_seen
        if self._watch is not None:
            self._watch.first_key = stored.first_key
            self._watch.file_was_seen |= stored.file_was_seen
            self._watch.look()

    async def turn(self) -> bool:
        """One look; tells whether other keys hold, or none."""
        watch = self._watch
        if watch is None:
            return False
        before = watch.known
        await asyncio.to_thread(watch.look)
        try:
            await self._remember(watch)
        except (StorageUnavailableError, OSError) as error:
            logger.warning("What is new about the API keys is not durable yet: %s", error)
        self._meter.gauge("fastserve_keys", (), len(watch.known.keys))
        if watch.known.problem:
            self._meter.count("fastserve_degraded", ("no API key accepted",))
        return watch.known is not before

    async def _remember(self, watch: KeyWatch) -> None:
        if watch.wants_first_key:
            proposed = watch.propose_first_key()
            watch.first_key = await self._store.write(
                lambda connection: store_first_key(connection, proposed)
            )
            watch.look()
        if watch.file_was_seen and not self._noted:
            await self._store.write(store_file_was_seen)
            self._noted = True
        if watch.first_key and not watch.file_was_seen:
            await asyncio.to_thread(watch.leave_first_key)
