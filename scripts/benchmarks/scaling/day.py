"""A recorded day of requests, compressed: when each request comes, and which model it names."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from policies.arrays import F64

DAY_S: Final = 86_400.0
_WINDOW_S: Final = 600.0
_A_DAY: Final = round(DAY_S / _WINDOW_S)


@dataclass(frozen=True, slots=True)
class Stream:
    """The requests for one model: whose recorded day they follow, and their rate at the day's peak."""

    model: str
    recorded: str
    peak_per_s: float


def recorded_days(path: Path) -> dict[str, list[F64]]:
    """Requests a second in windows of ten minutes, by recorded model: its days, each with one window more."""
    found = defaultdict[str, list[float]](list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["model"]].append(float(row["requests_per_s"]))
    return {
        model: [
            np.array(rates[start : start + _A_DAY + 1]) for start in range(0, len(rates) - _A_DAY, _A_DAY)
        ]
        for model, rates in found.items()
    }


def arrivals(rates: F64, seconds: float, peak_per_s: float, seed: int) -> F64:
    """Times in [0, `seconds`) of requests that follow `rates` over the day: Poisson, thinned."""
    draw = np.random.default_rng(seed)
    count = draw.poisson(peak_per_s * seconds)
    times = np.sort(draw.uniform(0.0, seconds, count))
    places = np.linspace(0.0, seconds, len(rates))
    kept: F64 = times[draw.uniform(0.0, rates.max(), count) < np.interp(times, places, rates)]
    return kept


def few(seconds: float, visits: int, each: int, seed: int) -> F64:
    """Times of a model that is rarely asked for: `visits` over the day of `each` requests a second apart."""
    draw = np.random.default_rng(seed)
    starts = (np.arange(visits) + draw.uniform(0.2, 0.8, visits)) * seconds / visits
    times: F64 = np.sort((starts[:, None] + np.arange(each)).ravel())
    return times[times < seconds]


def merged(streams: Sequence[tuple[str, F64]]) -> list[tuple[float, str]]:
    """All requests in the order of their times."""
    return sorted((float(time), model) for model, times in streams for time in times)
