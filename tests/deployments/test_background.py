"""Background work goes on after failures, says so, and ends when it is told to."""

import asyncio

import pytest

from deployments.background import Background
from deployments.metrics.meter import MemoryMeter


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_turn_that_fails_is_counted_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    meter, turns = MemoryMeter(), 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        if turns <= 3:
            raise OSError("disk away")

    background = Background("view", (0.001, 0.002), meter)
    background.repeat("report", turn, 0.001)
    await until(lambda: turns > 5)
    background.check()
    await background.close()
    assert background.failures == {"report": 3}
    assert meter.value("fastserve_background_failures", "view: report") == 3
    assert background.last_error == "report: OSError: disk away"
    assert "disk away" in caplog.text


async def test_pauses_after_failures_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def slept(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def fail() -> None:
        raise ValueError("no")

    monkeypatch.setattr("deployments.background.asyncio.sleep", slept)
    monkeypatch.setattr("deployments.background.random.uniform", lambda low, high: high)
    background = Background("owner", (1.0, 5.0))
    background.repeat("work", fail)
    for _ in range(50):
        await sleep(0)
    await background.close()
    assert pauses[:5] == [1.0, 2.0, 4.0, 5.0, 5.0]


async def test_one_failing_task_does_not_hold_the_others() -> None:
    turns = 0

    async def work() -> None:
        nonlocal turns
        turns += 1

    async def fail() -> None:
        raise ValueError("no")

    background = Background("owner")
    background.repeat("fail", fail)
    background.repeat("work", work, 0.001)
    await until(lambda: turns > 3)
    await background.close()


async def test_a_pause_may_end_on_an_event() -> None:
    due, turns = asyncio.Event(), 0

    async def work() -> None:
        nonlocal turns
        turns += 1
        due.clear()

    background = Background("owner")
    background.repeat("work", work, due.wait)
    await until(lambda: turns == 1)
    await asyncio.sleep(0.01)
    assert turns == 1
    due.set()
    await until(lambda: turns == 2)
    await background.close()


async def test_a_task_that_was_ended_from_outside_shows_in_the_health_check() -> None:
    async def work() -> None:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    background = Background("owner")
    background.repeat("work", work)
    for _ in range(10):
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="'owner: work' has ended"):
        background.check()
    await background.close()
    assert not background.running
