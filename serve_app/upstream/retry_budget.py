"""The retry budget: repeats stay a small share of recent requests, so that they never become a storm."""

import time
from collections.abc import Callable

from serve_app.config import Retries

WINDOW_S = 10


class RetryBudget:
    """Counts requests and retries by second."""

    def __init__(self, settings: Retries, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._second = int(clock())
        self._requests = [0] * WINDOW_S
        self._retries = [0] * WINDOW_S

    def request(self) -> None:
        """One request has come."""
        self._requests[self._slot()] += 1

    def allow(self) -> bool:
        """Whether one more retry is within the budget; counts it if so."""
        slot = self._slot()
        if sum(self._retries) >= max(self.settings.floor, self.settings.share * sum(self._requests)):
            return False
        self._retries[slot] += 1
        return True

    def _slot(self) -> int:
        now = int(self._clock())
        for second in range(max(self._second + 1, now - WINDOW_S + 1), now + 1):
            self._requests[second % WINDOW_S] = self._retries[second % WINDOW_S] = 0
        self._second = max(self._second, now)
        return self._second % WINDOW_S
