import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.child_process import ApartError
from tests.deployments.apart_module import ask


def until(condition: Callable[[], bool]) -> None:
    while not condition():  # the test's own time limit ends what never comes true
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def sleep_apart(path: Path) -> None:
    asyncio.run(ask("sleep", path))


async def test_the_result_comes_back(tmp_path: Path) -> None:
    assert await ask("echo", tmp_path / "pid") == b"data"


async def test_a_failure_is_told_in_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ApartError, match="it does not fit"):
        await ask("fail", tmp_path / "pid")


async def test_at_the_timeout_the_process_ends(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        await ask("sleep", tmp_path / "pid", timeout_s=5.0)
    until(lambda: not is_alive(int((tmp_path / "pid").read_text())))


def test_it_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    asking = multiprocessing.get_context("spawn").Process(target=sleep_apart, args=(tmp_path / "pid",))
    asking.start()
    until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    assert is_alive(pid)
    assert asking.pid is not None
    os.kill(asking.pid, 9)
    asking.join()
    until(lambda: not is_alive(pid))
