"""One try at one replica, and the watch that ends tries which take too long, without a timer for each."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from deployments.records.snapshot import ReplicaRow

PERIOD_S = 0.25
NEVER = float("inf")


class Attempt:
    """A try in progress. `limit_s` is the loop time at which the watch ends it; `reason` says why it did."""

    __slots__ = ("limit_s", "reason", "row", "send_limit_s", "timer")

    def __init__(self, row: ReplicaRow, limit_s: float, timer: asyncio.Timeout) -> None:
        self.row = row
        self.limit_s = limit_s
        self.send_limit_s = NEVER
        self.reason = ""
        self.timer = timer

    def expire(self, reason: str, now_s: float) -> None:
        """End it: the awaiting code sees TimeoutError and reads `reason`."""
        if not self.reason:
            self.reason = reason
            self.timer.reschedule(now_s)


class Silence(Protocol):
    """Where the watch learns which replicas have gone silent."""

    def silent(self, limit_s: float) -> frozenset[str]:
        """Replicas not heard of for `limit_s`."""


class Watch:
    """Looks at all tries a few times a second."""

    def __init__(self, silence: Silence, silent_s: Callable[[], float]) -> None:
        self._silence = silence
        self._silent_s = silent_s
        self.attempts: set[Attempt] = set()

    def look(self, now_s: float) -> None:
        """End the tries that are over their limit, whose client does not read, or whose replica is silent."""
        if not self.attempts:
            return
        silent = self._silence.silent(self._silent_s())
        for attempt in tuple(self.attempts):
            if now_s >= attempt.limit_s:
                attempt.expire("timeout", now_s)
            elif now_s >= attempt.send_limit_s:
                attempt.expire("reader", now_s)
            elif attempt.row.replica in silent:
                attempt.expire("silent", now_s)
