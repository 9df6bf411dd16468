"""Changes reach listeners soon, together, and cost nothing while there are none."""

import asyncio

import pytest

from deployments.records.snapshot import Snapshot
from deployments.table.publisher import NOTIFY_S, QUIET_S, Publisher, decode_snapshot
from tests.virtual_time import virtual_time


def publisher() -> Publisher:
    return Publisher(lambda version: Snapshot("b", version, 0.0))


@virtual_time
async def test_all_listeners_get_a_version_that_is_made_once() -> None:
    made = publisher()
    waiting = [asyncio.create_task(made.wait(0, 1.0)) for _ in range(8)]
    await asyncio.sleep(0)
    for _ in range(100):
        made.touch()
    found = {decode_snapshot(data).version for data in await asyncio.gather(*waiting)}
    assert found == {1}
    assert made.listeners == 0


@virtual_time
async def test_a_burst_of_changes_becomes_few_versions() -> None:
    made = publisher()
    for _ in range(300):
        made.touch()
        await asyncio.sleep(0.001)
    assert made.version == pytest.approx(0.3 / NOTIFY_S, abs=1)


@virtual_time
async def test_a_quiet_change_waits_longer_unless_a_loud_one_comes() -> None:
    made = publisher()
    made.touch()
    await made.wait(0, 1.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    made.touch(quiet=True)
    await made.wait(1, 1.0)
    assert loop.time() - began == pytest.approx(QUIET_S)
    began = loop.time()
    made.touch(quiet=True)
    made.touch()
    await made.wait(2, 1.0)
    assert loop.time() - began == pytest.approx(NOTIFY_S)


@virtual_time
async def test_nothing_happens_while_nothing_changes() -> None:
    made = publisher()
    made.touch()
    await made.wait(0, 1.0)
    assert decode_snapshot(await made.wait(1, 0.1)).version == 1
    assert made.version == 1


@virtual_time
async def test_nobody_gets_what_is_void() -> None:
    made = publisher()
    made.touch()
    await made.wait(0, 1.0)
    follower = asyncio.create_task(made.wait(1, 1.0))
    await asyncio.sleep(0)
    made.renew()
    newcomer = await made.wait(0, 1.0)
    assert decode_snapshot(newcomer).version == decode_snapshot(await follower).version == 2


@virtual_time
async def test_a_held_publisher_waits() -> None:
    made = publisher()
    loop = asyncio.get_running_loop()
    began = loop.time()
    made.hold(0.2)
    made.touch()
    assert decode_snapshot(await made.wait(0, 2.0)).version == 1
    assert loop.time() - began == pytest.approx(0.2)
