"""The table's process is killed 20 times under load: no request fails, no acknowledged outcome is lost."""

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from deployments.table.api import TableApi
from deployments.table.connect import join_table
from deployments.table.errors import TableError
from tests.integration.running import Cluster, Load

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

KILLS = 20


async def _status(table: TableApi) -> dict[str, Any]:
    """The table's own status, once it answers."""
    async with asyncio.timeout(120.0):
        while True:
            try:
                return await table.status()
            except TableError:
                await asyncio.sleep(0.1)


def _counted(status: dict[str, Any]) -> int:
    return sum(sum(statuses.values()) for statuses in status["statuses"].values())


def test_killing_the_table_fails_no_request_and_loses_no_outcome(cluster: Cluster) -> None:
    table = join_table()
    cluster.wait_for(lambda: _settled(table))
    before = asyncio.run(_status(table))
    with Load(cluster, ["auto", "alpha", "beta"], callers=4, max_tokens=8) as load:
        for _ in range(KILLS):
            load.until(len(load.answers) + 10)
            status = asyncio.run(_status(table))
            os.kill(status["pid"], signal.SIGKILL)
            while asyncio.run(_status(table))["boot_id"] == status["boot_id"]:
                time.sleep(0.05)
    failed = [(a.model, a.status, a.took_s, a.text[-300:]) for a in load.answers if not a.is_whole]
    assert failed == []
    cluster.wait_for(lambda: _settled(table))
    cluster.wait_for(lambda: _counted(asyncio.run(_status(table))) - _counted(before) >= len(load.answers))
    after = asyncio.run(_status(table))
    assert _counted(after) - _counted(before) == len(load.answers)
    rows = {
        name: after["store"]["rows"][name] - before["store"]["rows"][name]
        for name in ("decisions", "outcomes")
    }
    assert rows == {"decisions": len(load.answers), "outcomes": len(load.answers)}
    assert after["store"]["alarms"] == []


def _settled(table: TableApi) -> bool:
    """Whether the counts have stopped to move: ingress replicas have reported all."""
    first = _counted(asyncio.run(_status(table)))
    time.sleep(1.5)
    return first == _counted(asyncio.run(_status(table)))
