"""Stores of older versions open without loss; newer ones are refused and left alone; the way back is open."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, select, text

from deployments.table.errors import StorageUnavailableError
from deployments.table.store import ledger, schema
from deployments.table.store.migrations import downgrade, migrate, newest, revision
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.promotion.rollout import Stage
from tests.deployments.table.store.old_store import POLICY, write_old_store
from tests.deployments.table.store.rows import fill


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{path}")
    yield store
    store.close()


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables of records."""
    with sqlite3.connect(path) as connection:
        passing = {"rollout", "leases", "rates"}
        names = [table.name for table in schema.metadata.sorted_tables if table.name not in passing]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


async def test_a_store_of_version_0_1_opens_with_all_that_is_in_it(path: Path) -> None:
    write_old_store(path, 1_000)
    table = Table(Store(f"sqlite:///{path}"))
    log = await table.transitions(0.0, 2_000)
    assert [(d.decision_id, o.decision_id) for d, o in log if o] == [
        (f"d-{i}", f"d-{i}") for i in range(1000)
    ]
    rollout = await table.rollout()
    assert (rollout.active, rollout.last_version, rollout.revision) == (7, 8, 1)
    assert rollout.candidate is not None
    assert (rollout.candidate.version, rollout.candidate.stage) == (8, Stage.CANARY)
    assert await table.secret() == "the-old-secret"
    assert await table.artifact("policy:7") == ("abc", b"\x01\x02")
    status = await table.status()
    assert status["statuses"] == {"small": {"ok": 1_000}}, "a checkpoint that cannot be read is counted anew"
    assert status["store"]["alarms"] == []
    await table.close()
    assert list(path.parent.glob("*corrupt*")) == []


def test_an_opened_old_store_is_at_the_newest_revision(path: Path) -> None:
    write_old_store(path, 1)
    engine = create_engine(f"sqlite:///{path}")
    migrate(engine)
    with engine.connect() as connection:
        assert revision(connection) == newest()
        assert not inspect(connection).has_table("schema_version")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE alembic_version SET version_num = '9999'",
        "DROP TABLE alembic_version; CREATE TABLE schema_version (version INTEGER); "
        "INSERT INTO schema_version VALUES (99)",
    ],
)
def test_a_newer_store_is_refused_with_a_sentence_and_left_as_it_is(path: Path, change: str) -> None:
    store = Store(f"sqlite:///{path}")
    store.submit(ledger.last_sequence).result()
    store.close()
    with sqlite3.connect(path) as connection:
        connection.executescript(change)
    connection.close()
    before = path.read_bytes()
    store = Store(f"sqlite:///{path}")
    with pytest.raises(StorageUnavailableError, match=r"schema '\d+' is newer than .* left as it is"):
        store.submit(ledger.last_sequence).result()
    assert "start the FastServe that wrote it" in store.error
    store.close()
    assert path.read_bytes() == before
    assert list(path.parent.glob("*corrupt*")) == []


def test_down_and_up_again_loses_no_row(path: Path) -> None:
    write_old_store(path, 100)
    store = Store(f"sqlite:///{path}")
    store.submit(fill).result()
    store.close()
    before = contents(path)
    assert all(before.values())
    engine = create_engine(f"sqlite:///{path}")
    downgrade(engine, "0001")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version FROM schema_version")) == 1
        assert not inspect(connection).has_table("rollout")
        assert ledger.read_state(connection, "policy") is not None
    migrate(engine)
    with engine.connect() as connection:
        assert msgspec.msgpack.decode(ledger.read_rollout(connection)[1]).items() <= POLICY.items()
    engine.dispose()
    assert contents(path) == before


def test_the_migrations_make_the_schema_that_the_code_uses(store: Store) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), schema.metadata))

    assert store.submit(differences).result() == []


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.submit(fill).result()
    assert store._engine is not None
    migrate(store._engine)
    assert store.submit(lambda c: len(c.execute(select(schema.evaluations)).all())).result() == 1


def test_a_failed_migration_leaves_the_store_as_it_was(path: Path) -> None:
    write_old_store(path, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE rollout (in_the_way INTEGER)")
    connection.close()
    store = Store(f"sqlite:///{path}")
    with pytest.raises(StorageUnavailableError, match="already exists"):
        store.submit(ledger.last_sequence).result()
    store.close()
    with sqlite3.connect(path) as connection:
        names = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        assert "alembic_version" not in names
        assert connection.execute("SELECT count(*) FROM decisions").fetchone() == (1,)
