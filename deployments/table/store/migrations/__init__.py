"""Brings a database to a revision of the schema, forward or back, with Alembic; each in one transaction."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

FOLDER: Final = Path(__file__).parent
INITIAL: Final = "0001"
LEGACY_TABLE: Final = "schema_version"  # what stood in for Alembic's own table before revision 0002
LEGACY_VERSION: Final = 1
LOCK: Final = 0x66732D6D  # of PostgreSQL: one process migrates at a time


class NewerSchemaError(RuntimeError):
    """The database was written by a newer FastServe."""


def newest() -> str:
    """The newest revision that this code knows."""
    return str(ScriptDirectory(str(FOLDER)).get_current_head())


def revision(connection: Connection) -> str | None:
    """The revision of a database, None for an empty one. Raises NewerSchemaError for an unknown one."""
    known = {script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()}
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in known:
        raise NewerSchemaError(_refusal(present))
    if present is None and inspect(connection).has_table(LEGACY_TABLE):
        legacy = int(connection.scalar(text(f"SELECT max(version) FROM {LEGACY_TABLE}")) or 0)
        if legacy > LEGACY_VERSION:
            raise NewerSchemaError(_refusal(str(legacy)))
        return INITIAL if legacy else None
    return present


def migrate(engine: Engine, to: str = "head") -> None:
    """Forward to a revision. Raises NewerSchemaError, and then leaves the database as it is."""
    with engine.begin() as connection:
        _lock(connection)
        present = revision(connection)
        config = _config(connection)
        if present == INITIAL and MigrationContext.configure(connection).get_current_revision() is None:
            command.stamp(config, INITIAL)
        command.upgrade(config, to)


def downgrade(engine: Engine, to: str) -> None:
    """Back to a revision, for an older FastServe. Raises NewerSchemaError."""
    with engine.begin() as connection:
        _lock(connection)
        revision(connection)
        command.downgrade(_config(connection), to)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    return config


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


def _refusal(present: str) -> str:
    return (
        f"Its schema '{present}' is newer than '{newest()}', the newest known here. It was left as it is: "
        "start the FastServe that wrote it, or let that one downgrade it first"
    )
