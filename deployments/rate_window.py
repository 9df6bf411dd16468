"""A sum over the last seconds, for rates such as tokens a second."""

from collections import deque


class RateWindow:
    """Sums what was added during the last `window_s`. Times must not go backwards."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._entries: deque[tuple[float, float]] = deque()
        self._total = 0.0

    def add(self, now_s: float, value: float) -> None:
        """Count `value` at `now_s`."""
        self._entries.append((now_s, value))
        self._total += value
        self._forget(now_s)

    def total(self, now_s: float) -> float:
        """The sum over the window that ends at `now_s`."""
        self._forget(now_s)
        return self._total if self._entries else 0.0

    def per_s(self, now_s: float) -> float:
        """The sum over the window, per second."""
        return self.total(now_s) / self.window_s

    def _forget(self, now_s: float) -> None:
        while self._entries and self._entries[0][0] < now_s - self.window_s:
            self._total -= self._entries.popleft()[1]
        if not self._entries:
            self._total = 0.0
