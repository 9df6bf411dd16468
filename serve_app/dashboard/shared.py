"""What costs something to work out, worked out once for all who ask within a few seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


class Shared:
    """Values by name. Those who ask at once wait for the same work; an error is not kept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made: dict[str, tuple[float, asyncio.Task[Any]]] = {}

    async def get(self, name: str, make: Callable[[], Awaitable[Any]], max_age_s: float) -> Any:
        """The value of that name, at most `max_age_s` old."""
        made = self._made.get(name)
        if made is None or self._is_stale(*made, max_age_s):
            made = self._clock(), asyncio.create_task(_run(make))
            self._made[name] = made
        return await asyncio.shield(made[1])

    def forget(self) -> None:
        """Something was changed: everything is worked out anew."""
        self._made.clear()

    def _is_stale(self, at_s: float, task: asyncio.Task[Any], max_age_s: float) -> bool:
        if not task.done():
            return False
        return bool(task.cancelled() or task.exception()) or self._clock() - at_s > max_age_s


async def _run(make: Callable[[], Awaitable[Any]]) -> Any:
    return await make()
