"""The durable store: one writer thread that commits in groups, one reader thread, SQLite or PostgreSQL."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from deployments.migrations import NewerSchemaError, migrate

T = TypeVar("T")
Operation = Callable[[Connection], T]

logger = logging.getLogger(__name__)

GROUP: Final = 256  # operations in one transaction at most
REOPEN_S: Final = 1.0
CORRUPT: Final = ("malformed", "not a database", "disk image", "checksum")


class StorageUnavailableError(RuntimeError):
    """The store cannot take this now: disk full, locked, unreachable. Serving goes on without it."""


@dataclass(slots=True)
class _Job:
    operation: Callable[[Connection], Any]
    future: "Future[Any]" = field(default_factory=Future)


class Store:
    """Runs operations on the database named by a SQLAlchemy URL; a write returns after its commit.

    Operations that wait together are committed together. If one of them fails, each is run again alone,
    so that only the guilty one fails. A SQLite file that is corrupt or was written by a newer schema is
    moved aside, never deleted. Raises StorageUnavailableError while the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.alarms: list[str] = []  # what an operator must look at, newest last
        self.commits = 0
        self._engine: Engine | None = None
        self._next_open = 0.0
        self._error = "not opened"
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._writer = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._writer.start()

    def submit(self, operation: Operation[T]) -> "Future[T]":
        """Queues a write; the future resolves after the commit."""
        job = _Job(operation)
        self._jobs.put(job)
        return job.future

    async def write(self, operation: Operation[T]) -> T:
        """Runs a write in the next group commit. Raises StorageUnavailableError; its work is then undone."""
        return await asyncio.wrap_future(self.submit(operation))

    async def read(self, operation: Operation[T]) -> T:
        """Runs a read on its own connection, beside the writer. Raises StorageUnavailableError."""
        return await asyncio.wrap_future(self._reader.submit(self._read, operation))

    def close(self) -> None:
        """Commits what is queued and closes."""
        self._jobs.put(None)
        self._writer.join()
        self._reader.shutdown()
        if self._engine is not None:
            self._engine.dispose()

    def _run(self) -> None:
        stop = False
        while not stop:
            batch = [self._jobs.get()]
            while len(batch) < GROUP and not self._jobs.empty():
                batch.append(self._jobs.get())
            stop = None in batch
            jobs = [job for job in batch if job is not None and job.future.set_running_or_notify_cancel()]
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            with self._open().begin() as connection:
                results = [job.operation(connection) for job in jobs]
        except Exception as error:  # an operation's own fault must not end the only writer
            if len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
            else:
                jobs[0].future.set_exception(self._translate(error))
            return
        self.commits += 1
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)

    def _read(self, operation: Operation[T]) -> T:
        if self._engine is None:
            raise StorageUnavailableError(f"Store '{self._name}': {self._error}.")
        try:
            with self._engine.connect() as connection:
                return operation(connection)
        except SQLAlchemyError as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> Exception:
        if not isinstance(error, SQLAlchemyError):
            return error
        reason = str(getattr(error, "orig", None) or error)
        if isinstance(error, DatabaseError) and any(word in reason for word in CORRUPT):
            self._alarm(f"Store '{self._name}' is corrupt: {reason}.")
            self._engine = None
        return StorageUnavailableError(f"Store '{self._name}': {reason}.")

    @property
    def _name(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def _alarm(self, message: str) -> None:
        logger.error(message)
        self.alarms.append(message)

    def _open(self) -> Engine:
        """The engine, opened, checked and migrated. Raises StorageUnavailableError until that works."""
        if self._engine is not None:
            return self._engine
        if time.monotonic() < self._next_open:
            raise StorageUnavailableError(f"Store '{self._name}': {self._error}.")
        try:
            self._engine = self._connect()
        except SQLAlchemyError as error:
            self._next_open = time.monotonic() + REOPEN_S
            self._error = str(getattr(error, "orig", None) or error)
            raise StorageUnavailableError(f"Store '{self._name}': {self._error}.") from error
        return self._engine

    def _connect(self) -> Engine:
        if self.url.get_backend_name() != "sqlite":
            engine = create_engine(self.url, pool_pre_ping=True)
            migrate(engine)
            return engine
        try:
            return _open_sqlite(str(self.url))
        except (DatabaseError, NewerSchemaError) as error:
            reason = str(getattr(error, "orig", None) or error)
            if isinstance(error, DatabaseError) and not any(word in reason for word in CORRUPT):
                raise
            self._move_aside(reason)
            return _open_sqlite(str(self.url))

    def _move_aside(self, reason: str) -> None:
        path = Path(str(self.url.database))
        suffix = f".corrupt-{int(time.time())}"
        for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            if part.exists():
                part.rename(f"{part}{suffix}")
        self._alarm(
            f"Store '{path}' could not be used ({reason}); moved to '{path.name}{suffix}', started anew."
        )


def _open_sqlite(url: str) -> Engine:
    """A checked SQLite engine. Raises DatabaseError for a corrupt file, NewerSchemaError."""
    engine = create_engine(url)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        with engine.connect() as connection:
            verdict = str(connection.execute(text("PRAGMA quick_check(1)")).scalar())
        if verdict != "ok":
            raise DatabaseError("PRAGMA quick_check", None, ValueError(f"malformed: {verdict}"))
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    """WAL: reads do not wait. FULL: a commit survives a power cut; group commit can afford it."""
    connection.isolation_level = None  # the "begin" event starts transactions, not the driver
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
