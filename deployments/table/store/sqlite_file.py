"""A SQLite file as a store: how it is opened, and what is done with one that cannot be used."""

import contextlib
import time
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from deployments.table.store import schema
from deployments.table.store.migrations import migrate, revision

READS: Final = "reads"
CORRUPT: Final = ("malformed", "not a database", "unsupported file format")
SMALL_TABLES: Final = (
    schema.state,
    schema.artifacts,
    schema.evaluations,
    schema.feedback,
    schema.policy_events,
    schema.rollout,
    schema.spending,
)


def reason_of(error: BaseException) -> str:
    """The database's own words."""
    return str(getattr(error, "orig", None) or error)


def is_corrupt(error: BaseException) -> bool:
    """Whether the file itself is broken, so that trying again cannot help."""
    return isinstance(error, DatabaseError) and any(word in reason_of(error) for word in CORRUPT)


def open_engine(url: URL) -> Engine:
    """A migrated engine. Raises DatabaseError for a corrupt file, NewerSchemaError, OperationalError."""
    path = Path(str(url.database))
    _refuse_newer(path)
    _close_to_others(path)
    engine = create_engine(url)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _refuse_newer(path: Path) -> None:
    """Raise NewerSchemaError before the file is opened for writing: it must be left as it is."""
    if not path.exists() or path.stat().st_size == 0:
        return
    engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", poolclass=NullPool)
    with engine.connect() as connection:
        revision(connection)


def _close_to_others(path: Path) -> None:
    """Make the file, and leave it, to its owner alone: it holds the pool's secret."""
    with contextlib.suppress(OSError):  # SQLite says whether it is in its way too
        if not path.exists():  # to close one that is there would give up SQLite's locks on it
            path.touch(0o600)
        for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            if part.exists():
                part.chmod(0o600)


def _configure(connection: Any, _record: object) -> None:
    """WAL: reads do not wait. FULL: a commit survives a power cut; group commit can afford it.

    A decision takes 3 to 14 kB, by the length of its prompt: large pages leave less of the file unused.
    """
    connection.isolation_level = None  # the "begin" event starts transactions, not the driver
    cursor = connection.cursor()
    pragmas = (
        "page_size=16384",
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=5000",
        "cache_size=-16384",
    )
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """A transaction that writes takes its lock at once, and waits for it: one that has read before could not,
    because what it has read may have changed. Execution option `reads`: it will not write.
    """
    reads = connection.get_execution_options().get(READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def move_aside(url: URL) -> Path:
    """Renames the file and its journal to `.corrupt-<time>`, so that a new one can be made."""
    path = Path(str(url.database))
    moved = path.with_name(f"{path.name}.corrupt-{time.time_ns() // 1_000_000}")
    for suffix in ("", "-wal", "-shm"):
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.rename(f"{moved}{suffix}")
    return moved


def salvage(moved: Path, engine: Engine) -> str:
    """Copies what can be read of the small tables, which learning cannot make again; says how much."""
    old = create_engine(f"sqlite:///file:{moved}?mode=ro&uri=true")
    counts = {table.name: _copy(table, old, engine) for table in SMALL_TABLES}
    old.dispose()
    return ", ".join(f"{count} of {name}" for name, count in counts.items() if count) or "nothing"


def _copy(table: Table, old: Engine, new: Engine) -> int:
    rows: list[dict[str, Any]] = []
    try:
        with old.connect() as connection:
            for row in connection.execute(select(table)).mappings():
                rows.append(dict(row))  # one by one: those before the broken page count
    except SQLAlchemyError:
        pass  # the count says how far it came
    if rows:
        with new.begin() as connection:
            connection.execute(insert(table), rows)
    return len(rows)
