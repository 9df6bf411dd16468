"""Which of several clusters on one store writes policy state: the one that holds the store's lock.

The lock belongs to the operating system (SQLite) or to the database (PostgreSQL), which give it up when the
process that holds it ends, however it ends. No clock is compared.
"""

import fcntl
import os
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

LOCK: Final = 0x66737772  # of PostgreSQL's advisory locks


class Lease(Protocol):
    """A lock that is tried, never waited for."""

    def acquire(self) -> bool:
        """Whether this process holds it, after taking it where it is free. Checks also one that it had."""

    def release(self) -> None:
        """Give it up."""


class FileLease:
    """A lock on `<database>.writer`, a file beside the database."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.writer")
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """See Lease. Raises OSError where the folder cannot be written."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """See Lease."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class AdvisoryLease:
    """An advisory lock of PostgreSQL on a connection of its own."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None

    def acquire(self) -> bool:
        """See Lease. A connection that broke has lost the lock. Raises SQLAlchemyError."""
        if self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
            except SQLAlchemyError:
                self.release()
            else:
                return True
        connection = self._engine.connect()
        try:
            if connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
                self._connection = connection
                return True
        finally:
            if self._connection is None:
                connection.close()
        return False

    def release(self) -> None:
        """See Lease."""
        if self._connection is not None:
            self._connection.invalidate()  # closes it: a connection that broke cannot be asked to unlock
            self._connection.close()
            self._connection = None


def lease_of(url: URL) -> Lease:
    """The lease of a store."""
    if url.get_backend_name() == "sqlite":
        return FileLease(Path(str(url.database)))
    return AdvisoryLease(url)
