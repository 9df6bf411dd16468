"""The table makes the first key once, keeps it sealed, and tells all ingress replicas which keys hold."""

import asyncio
from pathlib import Path

import yaml

from deployments.keys.watch import KeyWatch
from deployments.table.keys import read_stored_keys
from deployments.table.store.store import Store
from deployments.table.table import Table
from deployments.table.view import TableView

TEXT = "fs-0123456789abcdef0123"


def table_at(store: Path, home: Path) -> Table:
    home.mkdir(exist_ok=True)
    watch = KeyWatch(home / "keys.yaml", home / "key", environ={})
    return Table(Store(f"sqlite:///{store / 'store.sqlite3'}"), key_watch=watch)


async def until(condition: object, table: Table) -> None:
    async with asyncio.timeout(30.0):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)
            await table.secret()


async def first_key(table: Table, home: Path) -> str:
    await until(lambda: (home / "key").exists(), table)
    return (home / "key").read_text().strip()


async def test_the_first_key_is_made_once_and_survives_the_node_that_made_it(tmp_path: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    texts = []
    for home in homes:
        table = table_at(tmp_path, home)
        texts.append(await first_key(table, home))
        assert len((await table.keys())[1]) == 1
        assert (await table.status())["keys"]["problem"] == ""
        await table.close()
    assert texts[0] == texts[1]
    assert texts[0].encode() not in (tmp_path / "store.sqlite3").read_bytes()


async def test_the_key_of_an_older_version_is_adopted(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{TEXT}\n")
    table = table_at(tmp_path, tmp_path)
    await until(lambda: table.store.submit(read_stored_keys).result().first_key == TEXT, table)
    await table.close()


async def test_a_view_follows_the_file_and_closes_with_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump({"keys": [{"name": "a", "key": TEXT}]}))
    file.chmod(0o600)
    table = table_at(tmp_path, tmp_path)
    view = TableView(table, "i")
    assert view.keys_problem == "The table has named no keys yet."
    await view.start()
    await until(lambda: not view.keys_problem, table)
    assert [key.name for key in view.keys.values()] == ["a"]
    file.chmod(0o644)
    await until(lambda: "mode 644" in view.keys_problem, table)
    assert (await table.status())["keys"]["count"] == 0
    await view.close()
    await table.close()
    again = table_at(tmp_path, tmp_path)
    assert "mode 644" in (await again.snapshot("", 0, 5.0)).keys_problem
    await again.close()


async def test_a_deleted_file_stays_a_problem_in_the_next_life(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump({"keys": [{"name": "a", "key": TEXT}]}))
    file.chmod(0o600)
    table = table_at(tmp_path, tmp_path)
    await until(lambda: table.store.submit(read_stored_keys).result().file_was_seen, table)
    await table.close()
    file.unlink()
    again = table_at(tmp_path, tmp_path)
    assert "is gone" in (await again.snapshot("", 0, 5.0)).keys_problem
    await again.close()
