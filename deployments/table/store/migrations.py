"""Brings a database to the present schema, one numbered step after the other, each in its own transaction."""

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection, Engine, func, insert, inspect, select, update

from deployments.table.store import schema

Step = Callable[[Connection], None]


class NewerSchemaError(RuntimeError):
    """The database was written by a newer FastServe."""


def _initial(connection: Connection) -> None:
    schema.metadata.create_all(connection)


STEPS: Final[tuple[Step, ...]] = (_initial,)


def version(connection: Connection) -> int:
    """Schema version of the database, 0 for an empty one."""
    if not inspect(connection).has_table(schema.schema_version.name):
        return 0
    return int(connection.scalar(select(func.max(schema.schema_version.c.version))) or 0)


def migrate(engine: Engine, steps: Sequence[Step] = STEPS) -> int:
    """Runs the steps that the database lacks; returns its version. Raises NewerSchemaError."""
    with engine.begin() as connection:
        present = version(connection)
    if present > len(steps):
        raise NewerSchemaError(f"Schema version {present} is newer than {len(steps)}, the newest known here.")
    for number, step in enumerate(steps[present:], present + 1):
        with engine.begin() as connection:
            step(connection)
            if number == 1:
                connection.execute(insert(schema.schema_version).values(version=1))
            else:
                connection.execute(update(schema.schema_version).values(version=number))
    return max(present, len(steps))
