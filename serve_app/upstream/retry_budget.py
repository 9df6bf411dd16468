"""The retry budget: repeats stay a small share of recent requests, so that they never become a storm."""

import time
from collections.abc import Callable

from serve_app.config import Retries

WINDOW_S = 10


class RetryBudget:
    """Counts requests, retries and hedges by second.

    A hedge, a try beside one that is late, is sent only where retries and hedges together are within the
    budget. It takes no retry's place: what failed is worth more than what is late.
    """

    def __init__(self, settings: Retries, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._second = int(clock())
        self._requests = [0] * WINDOW_S
        self._retries = [0] * WINDOW_S
        self._hedges = [0] * WINDOW_S

    def request(self) -> None:
        """One request has come."""
        self._requests[self._slot()] += 1

    def allow(self) -> bool:
        """Whether one more retry is within the budget; counts it if so."""
        slot = self._slot()
        if sum(self._retries) >= self._most():
            return False
        self._retries[slot] += 1
        return True

    @property
    def has_room_to_hedge(self) -> bool:
        """Whether one more hedge is within the budget."""
        self._slot()
        return sum(self._retries) + sum(self._hedges) < self._most()

    def hedge(self) -> None:
        """One hedge is sent."""
        self._hedges[self._slot()] += 1

    def _most(self) -> float:
        return max(self.settings.floor, self.settings.share * sum(self._requests))

    def _slot(self) -> int:
        now = int(self._clock())
        for second in range(max(self._second + 1, now - WINDOW_S + 1), now + 1):
            for counts in (self._requests, self._retries, self._hedges):
                counts[second % WINDOW_S] = 0
        self._second = max(self._second, now)
        return self._second % WINDOW_S
