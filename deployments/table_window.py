"""Percentiles over the last minutes: a ring of t-digests, one per slice of time."""

import math
from typing import Final

from datasketches import tdigest_double

from deployments.records.snapshot import Quantiles

WINDOW_S: Final = 300.0
SLICES: Final = 6
COMPRESSION: Final = 100  # rank error about 3 % at the median, below 1 % at p99 (Dunning, Ertl 2019)


class _Slice:
    __slots__ = ("count", "digest", "epoch", "total")

    def __init__(self, epoch: int) -> None:
        self.epoch, self.count, self.total = epoch, 0, 0.0
        self.digest = tdigest_double(COMPRESSION)


class Window:
    """Sketched distribution of one quantity over the last WINDOW_S seconds, kept in SLICES slices."""

    __slots__ = ("_closed", "_slices")

    def __init__(self) -> None:
        self._slices: list[_Slice] = []
        self._closed: tdigest_double | None = None  # merge of all slices but the newest

    def add(self, value: float | None, now_s: float) -> None:
        """Counts one value measured now; None and values that are not finite are left out."""
        if value is None or not math.isfinite(value):
            return
        self._expire(now_s)
        epoch = _epoch(now_s)
        if not self._slices or self._slices[-1].epoch < epoch:
            self._slices.append(_Slice(epoch))
            self._closed = None
        newest = self._slices[-1]
        newest.digest.update(value)
        newest.count += 1
        newest.total += value

    def quantiles(self, now_s: float) -> Quantiles:
        """Percentiles of what was added during the window."""
        self._expire(now_s)
        count = sum(part.count for part in self._slices)
        if count == 0:
            return Quantiles()
        if self._closed is None:
            self._closed = tdigest_double(COMPRESSION)
            for part in self._slices[:-1]:
                self._closed.merge(part.digest)
        merged = tdigest_double(COMPRESSION)
        merged.merge(self._closed)
        merged.merge(self._slices[-1].digest)
        p50, p95, p99 = (float(merged.get_quantile(rank)) for rank in (0.5, 0.95, 0.99))
        return Quantiles(p50, p95, p99, sum(part.total for part in self._slices) / count, count)

    def mean(self, now_s: float) -> float:
        """Mean of what was added during the window, 0 where nothing was."""
        self._expire(now_s)
        count = sum(part.count for part in self._slices)
        return sum(part.total for part in self._slices) / count if count else 0.0

    def dump(self) -> list[tuple[int, int, float, bytes]]:
        """The slices, to be read by `load`."""
        return [(part.epoch, part.count, part.total, part.digest.serialize()) for part in self._slices]

    def load(self, slices: list[tuple[int, int, float, bytes]]) -> None:
        """Takes over the slices of a dump."""
        self._slices, self._closed = [], None
        for epoch, count, total, data in slices:
            part = _Slice(epoch)
            part.count, part.total, part.digest = count, total, tdigest_double.deserialize(data)
            self._slices.append(part)

    def _expire(self, now_s: float) -> None:
        oldest = _epoch(now_s) - SLICES
        while self._slices and self._slices[0].epoch <= oldest:
            self._slices.pop(0)
            self._closed = None


def _epoch(now_s: float) -> int:
    return int(now_s * SLICES / WINDOW_S)
