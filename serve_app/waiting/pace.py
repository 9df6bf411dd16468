"""How long requests hold a slot, by what was predicted of them."""

from typing import Final

_MEMORY: Final = 0.05  # weight of the newest request in both means
_MOST: Final = 4.0  # times the mean: predictions that have just changed say nothing beside those before


class Pace:
    """Mean times of the requests that were over of late: what they took, and what had been predicted.

    Where short requests go first, those that are over say too little of those that still wait.
    """

    def __init__(self) -> None:
        self.mean_s = 0.0  # that one takes; 0 until one was over
        self._foreseen_s = 0.0

    def ended(self, foreseen_s: float, took_s: float) -> None:
        """One more is over."""
        weight = _MEMORY if self.mean_s else 1.0
        self.mean_s += weight * (took_s - self.mean_s)
        self._foreseen_s += weight * (foreseen_s - self._foreseen_s)

    def of(self, foreseen_s: float) -> float:
        """Seconds that a request takes of which so much is predicted; 0 where nothing is known yet."""
        if not self._foreseen_s:
            return self.mean_s
        return self.mean_s * min(max(foreseen_s / self._foreseen_s, 1.0 / _MOST), _MOST)
