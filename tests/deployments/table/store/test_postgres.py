"""PostgreSQL as the store: the same records, down and up again, one writer of two. The server is Debian's."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, make_url, select

from deployments.records.records import FeedbackRecord
from deployments.table.store import ledger, schema
from deployments.table.store.lease import lease_of
from deployments.table.store.migrations import downgrade, migrate
from deployments.table.store.store import Store
from tests.deployments.table.store.rows import fill, outcome, stored, write

START_S = 60.0


def binaries() -> tuple[str, str]:
    """`initdb` and `postgres`; the test is left out where Debian's package `postgresql` is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join([os.environ["PATH"], *map(str, debian)])
    initdb, server = shutil.which("initdb", path=path), shutil.which("postgres", path=path)
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    return initdb, server


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server of its own, on a socket only."""
    pytest.importorskip("psycopg")
    initdb, server = binaries()
    user = "postgres" if os.geteuid() == 0 else None
    home = Path("/tmp") / f"fastserve-pg-{os.getpid()}"  # short: a socket's path has a limit
    home.mkdir(mode=0o700)
    if user:
        shutil.chown(home, user)
    url = f"postgresql+psycopg://fastserve@/postgres?host={home}"
    try:
        command = [initdb, "-D", home / "data", "-A", "trust", "-U", "fastserve", "--no-sync"]
        subprocess.run(command, user=user, check=True, stdout=2)
        options = ["-k", str(home), "-c", "listen_addresses=", "-c", "fsync=off"]
        process = subprocess.Popen([server, "-D", home / "data", *options], user=user, stderr=sys.stderr)
        yield url
        process.terminate()
        process.wait(20)
    finally:
        shutil.rmtree(home)


@pytest.fixture
def url(postgres: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own on that server, once it answers."""
    name = f"t{abs(hash(request.node.name))}"
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    deadline = time.monotonic() + START_S
    while True:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            break
        except Exception:  # as while it starts
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    engine.dispose()
    return str(make_url(postgres).set(database=name).render_as_string(hide_password=False))


def test_postgres_keeps_the_same_records(url: str, tmp_path: Path) -> None:
    store = Store(url, tmp_path / "store.key")
    write(store, "a", "a")
    write(store, "a", "b")
    first = store.submit(lambda c: ledger.write_outcomes(c, [outcome("a"), outcome("a")])).result()
    again = store.submit(lambda c: ledger.write_outcomes(c, [outcome("a"), outcome("b")])).result()
    assert ([r.decision_id for r in first], [r.decision_id for r in again]) == (["a"], ["b"])
    vote = FeedbackRecord("a", "k", "thumb", 1.0, 1.0)
    votes = [store.submit(lambda c: ledger.write_feedback(c, vote)).result() for _ in range(2)]
    assert votes == ["new", "same"]
    store.submit(lambda c: ledger.write_artifact(c, "quality", "1", b"x")).result()
    store.submit(lambda c: ledger.write_artifact(c, "quality", "2", b"\0y")).result()
    assert store.submit(lambda c: ledger.read_artifact(c, "quality")).result() == ("2", b"\0y")
    with pytest.raises(ValueError, match="does not take this"):
        write(store, "nul\0")
    assert stored(store) == {"a", "b"}
    store.close()
    store = Store(url, tmp_path / "store.key")
    assert stored(store) == {"a", "b"}
    store.close()


def test_down_and_up_again_loses_no_row(url: str, tmp_path: Path) -> None:
    store = Store(url, tmp_path / "store.key")
    write(store, "d-1", "d-2")
    store.submit(lambda c: ledger.write_outcomes(c, [outcome("d-1")])).result()
    store.submit(fill).result()
    before = store.submit(contents).result()
    store.close()
    engine = create_engine(url)
    downgrade(engine, "0001")
    migrate(engine)
    with engine.connect() as connection:
        assert contents(connection) == before
    engine.dispose()
    assert [name for name in ("decisions", "outcomes", "evaluations", "feedback") if not before[name]] == []


def contents(connection: Connection) -> dict[str, list[str]]:
    """All rows of all tables of records."""
    tables = [table for table in schema.metadata.sorted_tables if table.name != "rollout"]
    return {table.name: sorted(map(repr, connection.execute(select(table)))) for table in tables}


def test_of_two_clusters_on_one_store_one_writes_until_it_ends(url: str) -> None:
    first, second = lease_of(make_url(url)), lease_of(make_url(url))
    assert (first.acquire(), second.acquire(), first.acquire()) == (True, False, True)
    first.release()
    assert (second.acquire(), first.acquire()) == (True, False)
    second.release()
