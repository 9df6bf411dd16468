"""The first SIGTERM begins to leave, the end of that ends the process, whatever became of it."""

import threading
from types import CodeType

import pytest

from deployments.draining import Draining


class Process:
    """Counts what is asked of it; `end` comes back as the next signal does."""

    def __init__(self, error: Exception | None = None) -> None:
        self.left, self.exits = 0, list[int]()
        self.may_leave, self.ended = threading.Event(), threading.Event()
        self._error = error
        self.handler = Draining(self.leave, self.exit_now, self.ended.set)

    def leave(self) -> None:
        self.left += 1
        assert self.may_leave.wait(10.0)
        if self._error is not None:
            raise self._error

    def exit_now(self, message: str, exit_code: int) -> None:
        self.exits.append(exit_code)
        raise SystemExit(exit_code)


@pytest.mark.parametrize("error", [None, TimeoutError("too slow")])
def test_a_process_leaves_once_before_it_exits(error: Exception | None) -> None:
    process = Process(error)
    process.handler("SIGTERM", exit_code=1)
    process.handler("SIGTERM", exit_code=1)  # who is impatient changes nothing
    assert process.exits == []
    process.may_leave.set()
    assert process.ended.wait(10.0)
    with pytest.raises(SystemExit):
        process.handler("SIGTERM", exit_code=1)
    assert (process.left, process.exits) == (1, [1])


def test_what_it_replaces_is_there() -> None:
    from ray._private import worker

    from deployments import draining

    inner = [one for one in worker.Worker.main_loop.__code__.co_consts if isinstance(one, CodeType)]
    assert any(draining.EXIT in handler.co_names for handler in inner)
    assert callable(getattr(worker, draining.EXIT))
