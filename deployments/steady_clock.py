"""Wall time that never goes back: what orders records and tells silence must not lose an hour to a clock that
is set."""

import time
from collections.abc import Callable
from typing import Final

_CATCHING_UP: Final = 0.5  # pace while it is ahead of the system's clock


class SteadyClock:
    """Seconds since the epoch.

    Where the system's clock is set back this one goes on from where it was, at half the pace until both agree
    again; where that is set forward it follows at once.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._shown_s, self._at_s = wall(), monotonic()

    def __call__(self) -> float:
        """Now."""
        wall_s, at_s = self._wall(), self._monotonic()
        self._shown_s = max(wall_s, self._shown_s + _CATCHING_UP * (at_s - self._at_s))
        self._at_s = at_s
        return self._shown_s


wall_s: Final = SteadyClock()  # of this process
