"""When an answer is late: beyond the 95th percentile of the time that such answers took of late."""

import math
from typing import Final

QUANTILE: Final = 0.95
_FIRST: Final = math.log(2.0)  # times its predicted time, until something is known
_MOST: Final = math.log(100.0)
_STEP: Final = 0.1
_LEAST_S: Final = 0.02  # that is predicted; below it the event loop's own delays decide

Kind = tuple[str, str, bool]  # model, path, whether it is a stream


class Lateness:
    """For each kind of answer the percentile of its time over the time that was predicted for it, at least 1.

    Each answer moves the logarithm of the estimate: one that is late up by 0.95 steps, one in time down by
    0.05 (Robbins, Monro 1951), so that in the long run one in twenty is late, whatever the predictions are
    worth. Nobody has to wait for a late answer to learn from it.
    """

    def __init__(self) -> None:
        self._logs: dict[Kind, float] = {}

    def limit_s(self, kind: Kind, predicted_s: float) -> float:
        """After so long an answer that was predicted to take `predicted_s` is late."""
        return math.exp(self._logs.get(kind, _FIRST)) * max(predicted_s, _LEAST_S)

    def was(self, kind: Kind, *, late: bool) -> None:
        """An answer was late, or in time."""
        step = _STEP * (QUANTILE if late else QUANTILE - 1.0)
        self._logs[kind] = min(max(self._logs.get(kind, _FIRST) + step, 0.0), _MOST)
