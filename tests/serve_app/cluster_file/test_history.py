"""The history of applied configs: kept by the store, and where a rollback leads."""

from pathlib import Path
from typing import Any

import pytest

from deployments.table.store.store import Store
from deployments.table.table import Table
from serve_app.cluster_file.history import Entry, entries, good_entry, record


def config(name: str) -> dict[str, Any]:
    return {"applications": [{"name": name}]}


def entry(number: int, healthy: bool = True) -> Entry:
    return Entry(number, 0.0, "ann@host", "deploy", healthy, config(str(number)))


async def test_what_was_applied_outlives_the_table(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'table.sqlite3'}"
    table = Table(Store(url))
    await record(table, "ann@host", "deploy", config("first"), healthy=True)
    await record(table, "bob@host", "deploy", config("second"), healthy=False)
    await table.close()
    again = Table(Store(url))
    found = await entries(again)
    await again.close()
    assert [(one.number, one.who, one.healthy) for one in found] == [
        (1, "ann@host", True),
        (2, "bob@host", False),
    ]
    assert found[0].config == config("first")
    assert found[0].line(None)[2:] == ("ann@host", "deploy", "yes", "+first")
    assert found[1].line(found[0])[2:] == ("bob@host", "deploy", "NO", "+second, -first")


def test_a_rollback_goes_to_the_last_healthy_config_before_the_present_one() -> None:
    assert good_entry([entry(1), entry(2)], None).number == 1
    assert good_entry([entry(1), entry(2, healthy=False), entry(3)], None).number == 1
    assert good_entry([entry(1), entry(2), entry(3, healthy=False)], 1).number == 1


def test_a_config_that_never_ran_is_no_aim() -> None:
    with pytest.raises(ValueError, match=r"Entry 2 .* is no healthy config\. Healthy: 1\."):
        good_entry([entry(1), entry(2, healthy=False)], 2)
    with pytest.raises(ValueError, match="no healthy config before the present one"):
        good_entry([entry(1)], None)
