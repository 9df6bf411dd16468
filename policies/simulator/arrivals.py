"""When requests come and how long they are: recorded traces, and synthetic arrival processes."""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from policies.arrays import F64

_COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Trace:
    """N requests: arrival times [N] in seconds, ascending; prompt and output tokens [N]."""

    arrival_s: F64
    prompt_tokens: F64
    output_tokens: F64

    def __len__(self) -> int:
        return int(self.arrival_s.shape[0])

    @property
    def rate_per_s(self) -> float:
        """Mean arrivals per second."""
        return (len(self) - 1) / max(float(self.arrival_s[-1] - self.arrival_s[0]), 1e-9)

    def part(self, start: float, stop: float) -> "Trace":
        """The requests from share `start` to share `stop` of the trace, time from 0."""
        first, last = int(len(self) * start), int(len(self) * stop)
        if last - first < 2:
            raise ValueError(f"Part {start} to {stop} of {len(self)} requests is too short.")
        arrival_s = self.arrival_s[first:last]
        return Trace(arrival_s - arrival_s[0], self.prompt_tokens[first:last], self.output_tokens[first:last])

    def at_rate(self, rate_per_s: float) -> "Trace":
        """The same requests with time stretched to another mean rate."""
        if not rate_per_s > 0.0:
            raise ValueError(f"rate_per_s: {rate_per_s}, must be above 0.")
        return self.at_times(self.arrival_s * (self.rate_per_s / rate_per_s))

    def at_times(self, arrival_s: F64) -> "Trace":
        """The same requests, in order, at other times [N]."""
        if arrival_s.shape != self.arrival_s.shape:
            raise ValueError(f"{arrival_s.shape[0]} arrival times for {len(self)} requests.")
        return Trace(arrival_s, self.prompt_tokens, self.output_tokens)


def read_trace(path: Path) -> Trace:
    """A CSV (or .csv.gz) with the columns arrival_s, prompt_tokens, output_tokens.

    Raises ValueError with the line for a missing column, a bad number, or times that descend.
    """
    rows: list[tuple[float, float, float]] = []
    with _open(path) as file:
        reader = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"'{path.name}' lacks the columns {', '.join(missing)}; needs {', '.join(_COLUMNS)}."
            )
        for line in reader:
            rows.append(_request(line, path.name, reader.line_num))
    if len(rows) < 2:
        raise ValueError(f"'{path.name}' holds {len(rows)} requests, needs at least 2.")
    data = np.array(rows)
    if np.any(np.diff(data[:, 0]) < 0.0):
        raise ValueError(f"'{path.name}': arrival_s must not descend.")
    return Trace(data[:, 0] - data[0, 0], data[:, 1], data[:, 2])


def _open(path: Path) -> TextIO:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _request(line: dict[str, str], name: str, number: int) -> tuple[float, float, float]:
    try:
        arrival, prompt, output = (float(line[column]) for column in _COLUMNS)
    except (TypeError, ValueError) as error:
        raise ValueError(f"'{name}', line {number}: {line} is not a request.") from error
    if not (np.isfinite(arrival) and 0.0 <= prompt < np.inf and 0.0 <= output < np.inf):
        raise ValueError(f"'{name}', line {number}: numbers must be finite and token counts not negative.")
    return arrival, prompt, output


def poisson(rate_per_s: float, count: int, rng: np.random.Generator) -> F64:
    """[count] times of a Poisson process, from 0."""
    return _times(rng.exponential(1.0 / rate_per_s, count))


def gamma_bursts(rate_per_s: float, cv: float, count: int, rng: np.random.Generator) -> F64:
    """[count] times with Gamma gaps whose coefficient of variation is `cv`; above 1 they come in bursts."""
    shape = 1.0 / cv**2
    return _times(rng.gamma(shape, 1.0 / (rate_per_s * shape), count))


def square_wave(
    low_per_s: float, high_per_s: float, period_s: float, count: int, rng: np.random.Generator
) -> F64:
    """[count] Poisson times whose rate is `low_per_s` in the first half of each period, then `high_per_s`."""
    grid_s = np.array([0.0, 0.5, 1.0]) * period_s
    return _modulated(grid_s, np.array([low_per_s, high_per_s]), count, rng)


def day_curve(
    mean_per_s: float, peak_to_mean: float, day_s: float, count: int, rng: np.random.Generator
) -> F64:
    """[count] Poisson times of a sinusoidal day of `day_s` seconds.

    The peak rate is `peak_to_mean` (1 to 2) times the mean.
    """
    if not 1.0 <= peak_to_mean <= 2.0:
        raise ValueError(f"peak_to_mean: {peak_to_mean}, must lie in [1, 2].")
    grid_s = np.linspace(0.0, day_s, 97)
    middle = (grid_s[1:] + grid_s[:-1]) / 2.0
    rates = mean_per_s * (1.0 - (peak_to_mean - 1.0) * np.cos(2.0 * np.pi * middle / day_s))
    return _modulated(grid_s, np.maximum(rates, 1e-6 * mean_per_s), count, rng)


def synthetic_trace(count: int, seed: int) -> Trace:
    """Poisson arrivals with log-normal lengths like a chat service's: medians of 700 and 150 tokens."""
    rng = np.random.default_rng([seed, 3])
    prompt = np.rint(np.exp(rng.normal(np.log(700.0), 0.9, count)).clip(8, 8000))
    output = np.rint(np.exp(rng.normal(np.log(150.0), 0.8, count)).clip(4, 1500))
    return Trace(poisson(5.0, count, rng), prompt, output)


def _times(gaps: F64) -> F64:
    times: F64 = np.cumsum(gaps)
    return times - times[0]


def _modulated(grid_s: F64, rates: F64, count: int, rng: np.random.Generator) -> F64:
    """Inversion: unit-rate Poisson times mapped through the inverse of the cumulated rate of a period."""
    mass = np.concatenate(([0.0], np.cumsum(np.diff(grid_s) * rates)))
    unit = np.cumsum(rng.exponential(1.0, count))
    cycles, rest = np.divmod(unit, mass[-1])
    times: F64 = cycles * grid_s[-1] + np.interp(rest, mass, grid_s)
    return times - times[0]
