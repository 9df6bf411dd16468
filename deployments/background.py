"""Background work of one object: started together, watched, restarted after a failure, ended together."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from deployments.logger import get_logger
from deployments.metrics.meter import Meter, process_meter

logger = get_logger(__name__)

BACKOFF_S: Final = (0.05, 1.0)  # pause after the first failure, and the longest; doubled in between

Turn = Callable[[], Awaitable[object]]


class Background:
    """Tasks that repeat a turn of work until `close`. A turn that fails is logged, counted and tried again.

    Pauses after failures double from `backoff_s[0]` to `backoff_s[1]`, with jitter, so that many processes
    do not come back at once. `failures` counts failed turns by task, `last_error` holds the latest one.
    """

    def __init__(
        self, owner: str, backoff_s: tuple[float, float] = BACKOFF_S, meter: Meter | None = None
    ) -> None:
        self.failures: Counter[str] = Counter()
        self.last_error = ""
        self._owner, self._backoff_s = owner, backoff_s
        self._meter = meter
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def running(self) -> bool:
        """Whether anything was started and not closed since."""
        return bool(self._tasks)

    def repeat(self, name: str, turn: Turn, pause: Callable[[], Awaitable[object]] | float = 0.0) -> None:
        """Start a task: a turn, then a pause (seconds, or whatever returns when the next turn is due)."""
        self._tasks.append(asyncio.create_task(self._run(name, turn, pause), name=f"{self._owner}: {name}"))

    def check(self) -> None:
        """Raise RuntimeError where a task has ended: for a health check, which then replaces the process."""
        for task in self._tasks:
            if task.done():
                raise RuntimeError(f"Background task '{task.get_name()}' has ended.")

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, turn: Turn, pause: Callable[[], Awaitable[object]] | float) -> None:
        backoff_s = self._backoff_s[0]
        while True:
            try:
                await turn()
            except Exception as error:  # a turn must not end the task, whatever it raised
                self._failed(name, error)
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(2.0 * backoff_s, self._backoff_s[1])
                continue
            backoff_s = self._backoff_s[0]
            await (asyncio.sleep(pause) if isinstance(pause, float) else pause())

    def _failed(self, name: str, error: Exception) -> None:
        self.failures[name] += 1
        self.last_error = f"{name}: {type(error).__name__}: {error}"
        logger.warning("%s: '%s' failed and is tried again: %s", self._owner, name, error, exc_info=error)
        (self._meter or process_meter()).count("fastserve_background_failures", (f"{self._owner}: {name}",))
