"""The durable store: one writer thread that commits in groups, one reader thread, SQLite or PostgreSQL."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError, SQLAlchemyError

from deployments.logger import get_logger
from deployments.table.errors import StorageUnavailableError
from deployments.table.store import sqlite_file
from deployments.table.store.lease import lease_of
from deployments.table.store.migrations import NewerSchemaError, migrate
from deployments.table.store.seal import Sealer, SealError, ensure_keys
from deployments.table.store.sqlite_file import reason_of

T = TypeVar("T")
Operation = Callable[[Connection], T]

logger = get_logger(__name__)

GROUP: Final = 256  # operations in one transaction at most
REOPEN_S: Final = 1.0
BAD_RECORD: Final = (DataError, IntegrityError, ProgrammingError)  # sending it again cannot help


@dataclass(slots=True)
class _Write:
    operation: Callable[[Connection], Any]
    future: "Future[Any]" = field(default_factory=Future)


class Store:
    """Runs operations on the database named by a SQLAlchemy URL; a write returns after its commit.

    Operations that wait together are committed together. If one of them fails, each is run again alone,
    so that only the guilty one fails. A SQLite file that is corrupt is moved aside, never deleted, and
    `alarms` says so; a database of a newer schema is left as it is. Raises StorageUnavailableError while
    the database cannot be used, ValueError for what no database would take. Keys of
    `key_file` seal what is kept of requests, see `seal`; by default it lies beside the database.
    """

    def __init__(self, url: str, key_file: Path | None = None) -> None:
        self.url = make_url(url)
        if self.url.get_backend_name() == "sqlite" and self.url.database in (None, "", ":memory:"):
            raise ValueError(f"Store '{url}' names no file: a store must outlive its process.")
        self._key_file = key_file or self._own_key_file()
        self._sealer: Sealer | None = None
        self.name = self.url.render_as_string(hide_password=True)
        self.alarms: list[str] = []  # what an operator must look at, newest last
        self.error = "not opened"  # why writes fail, empty while they do not
        self.commits = 0
        self.lease = lease_of(self.url)
        self._leasing = threading.Lock()
        self._engine: Engine | None = None
        self._corrupt = ""
        self._next_open = 0.0
        self._queue: queue.Queue[_Write | None] = queue.Queue()
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._writer = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._writer.start()

    @property
    def unreadable(self) -> int:
        """Records that no key of the key file opened, since the start."""
        return 0 if self._sealer is None else self._sealer.unreadable

    def _own_key_file(self) -> Path:
        """Beside the file of a SQLite database. Raises ValueError for another database."""
        if self.url.get_backend_name() != "sqlite":
            raise ValueError(f"Store '{self.url.render_as_string()}' needs a key file.")
        return Path(f"{self.url.database}.key")

    def submit(self, operation: Operation[T]) -> "Future[T]":
        """Queues a write; the future resolves after the commit."""
        write = _Write(operation)
        self._queue.put(write)
        return write.future

    async def write(self, operation: Operation[T]) -> T:
        """Runs a write in the next group commit. Raises StorageUnavailableError; its work is then undone."""
        return await asyncio.wrap_future(self.submit(operation))

    async def read(self, operation: Operation[T]) -> T:
        """Runs a read on its own connection, beside the writer. Raises StorageUnavailableError."""
        return await asyncio.wrap_future(self._reader.submit(self._read, operation))

    def try_lease(self) -> bool:
        """Whether this process writes policy state: no other cluster on this store does. See `lease`."""
        try:
            with self._leasing:
                return self.lease.acquire()
        except (SQLAlchemyError, OSError) as error:
            raise self._unavailable(reason_of(error)) from error

    async def acquire_lease(self) -> bool:
        """`try_lease`, which may wait for the database, off the loop."""
        return await asyncio.to_thread(self.try_lease)

    def close(self) -> None:
        """Commits what is queued and closes."""
        self._queue.put(None)
        self._writer.join()
        self._reader.shutdown()
        self.lease.release()
        if self._engine is not None:
            self._engine.dispose()

    def _run(self) -> None:
        stop = False
        while not stop:
            batch = [self._queue.get()]
            while len(batch) < GROUP and not self._queue.empty():
                batch.append(self._queue.get())
            stop = None in batch
            writes = [one for one in batch if one is not None and one.future.set_running_or_notify_cancel()]
            if writes:
                self._commit(writes)

    def _commit(self, writes: Sequence[_Write]) -> None:
        try:
            with self._open().begin() as connection:
                results = [write.operation(connection) for write in writes]
        except Exception as error:  # whatever an operation raised goes to its caller; the writer lives on
            if len(writes) > 1 and not isinstance(error, StorageUnavailableError):
                for write in writes:
                    self._commit([write])
                return
            for write in writes:
                write.future.set_exception(self._translate(error))
            return
        self.commits += 1
        self.error = ""
        for write, result in zip(writes, results, strict=True):
            write.future.set_result(result)

    def _read(self, operation: Operation[T]) -> T:
        engine = self._engine
        if engine is None:
            raise self._unavailable()
        try:
            with engine.execution_options(**{sqlite_file.READS: True}).connect() as connection:
                return operation(connection)
        except SQLAlchemyError as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, BAD_RECORD):
            return ValueError(f"Store '{self.name}' does not take this: {reason_of(error)}.")
        if not isinstance(error, SQLAlchemyError):
            return error
        reason = reason_of(error)
        if self.url.get_backend_name() == "sqlite" and sqlite_file.is_corrupt(error):
            self._corrupt, self._next_open = reason, 0.0  # the writer's next write moves the file aside
        return self._unavailable(reason)

    def _unavailable(self, reason: str = "") -> StorageUnavailableError:
        self.error = reason or self.error
        return StorageUnavailableError(f"Store '{self.name}' is unavailable: {self.error}.")

    def _open(self) -> Engine:
        """The engine, opened and migrated. Raises StorageUnavailableError until that works."""
        if self._engine is not None and not self._corrupt:
            return self._engine
        if time.monotonic() < self._next_open:
            raise self._unavailable()
        self._next_open = time.monotonic() + REOPEN_S
        try:
            self._sealer = self._sealer or Sealer(ensure_keys(self._key_file))
            self._engine = self._connect().execution_options(sealer=self._sealer)
        except (SQLAlchemyError, OSError, SealError, NewerSchemaError) as error:
            raise self._unavailable(reason_of(error)) from error
        self._corrupt = ""
        return self._engine

    def _connect(self) -> Engine:
        if self.url.get_backend_name() != "sqlite":
            engine = create_engine(self.url, pool_pre_ping=True)
            migrate(engine)
            return engine
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        try:
            if not self._corrupt:
                return sqlite_file.open_engine(self.url)
            reason = self._corrupt
        except SQLAlchemyError as error:
            if not sqlite_file.is_corrupt(error):
                raise
            reason = reason_of(error)
        moved = sqlite_file.move_aside(self.url)
        self._alarm(f"Store '{self.name}' could not be used ({reason}). It was moved to '{moved.name}'.")
        engine = sqlite_file.open_engine(self.url)
        self._alarm(f"From '{moved.name}' were read: {sqlite_file.salvage(moved, engine)}.")
        return engine

    def _alarm(self, message: str) -> None:
        logger.error(message)
        self.alarms.append(message)
