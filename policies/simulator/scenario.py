"""Scenarios of load: which arrivals, how dense against the pool's capacity, for which caller."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from policies.arrays import F64
from policies.simulator import arrivals
from policies.simulator.arrivals import Trace
from policies.simulator.spec import ModelSpec, capacity_per_s
from policies.simulator.workload import Episode, episode_from_trace

Timing = Callable[[Trace, float, np.random.Generator], F64]  # (trace, mean rate, rng) -> times [N]

SQUARE_LOW: Final = 6.0
SQUARE_HIGH: Final = 40.0
SQUARE_PERIOD_S: Final = 60.0
BURST_CV: Final = 4.0


def replayed(trace: Trace, rate_per_s: float, rng: np.random.Generator) -> F64:
    """The recorded times, stretched to the rate."""
    return trace.at_rate(rate_per_s).arrival_s


def bursty(trace: Trace, rate_per_s: float, rng: np.random.Generator) -> F64:
    """Gamma gaps with a coefficient of variation of BURST_CV."""
    return arrivals.gamma_bursts(rate_per_s, BURST_CV, len(trace), rng)


def square(trace: Trace, rate_per_s: float, rng: np.random.Generator) -> F64:
    """Rates in the ratio 6 to 40, changing every half minute, with the given mean."""
    unit = rate_per_s / ((SQUARE_LOW + SQUARE_HIGH) / 2.0)
    return arrivals.square_wave(SQUARE_LOW * unit, SQUARE_HIGH * unit, SQUARE_PERIOD_S, len(trace), rng)


def day(trace: Trace, rate_per_s: float, rng: np.random.Generator) -> F64:
    """A day of ten minutes whose peak is 1.6 times the mean."""
    return arrivals.day_curve(rate_per_s, 1.6, 600.0, len(trace), rng)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named way to load the pool: mean rate = `load` times its capacity."""

    name: str
    load: float
    timing: Timing = replayed

    def episode(
        self,
        trace: Trace,
        capacity: float,
        rows: npt.NDArray[np.int64],
        caller: F64,
        skill: float,
        rng: np.random.Generator,
    ) -> Episode:
        """The trace's requests at this scenario's times, paired with quality rows by the generator."""
        timed = trace.at_times(self.timing(trace, self.load * capacity, rng))
        return episode_from_trace(timed, rows, caller, skill, rng)


STANDARD: Final = (
    Scenario("load 0.5", 0.5),
    Scenario("load 0.8", 0.8),
    Scenario("load 1.0", 1.0),
    Scenario("load 1.2", 1.2),
    Scenario("overload 1.5", 1.5),
    Scenario("gamma bursts", 1.0, bursty),
    Scenario("square 6/40", 1.0, square),
)


def pool_capacity_per_s(models: Sequence[ModelSpec], trace: Trace) -> float:
    """Requests/s the whole pool sustains at the trace's mean lengths: load factor 1."""
    prompt, output = float(trace.prompt_tokens.mean()), float(trace.output_tokens.mean())
    return sum(capacity_per_s(model, prompt, output) for model in models)


@dataclass(frozen=True, slots=True)
class ScenarioMix:
    """Draws training episodes: a random stretch of the trace, a random arrival process, load and caller.

    `caller` [4] is drawn with probability `caller_share`; otherwise weights in [0, 2] (cost in [0, 1])
    and a target between a third and three times the caller's.
    """

    trace: Trace
    capacity: float
    rows: npt.NDArray[np.int64]
    caller: F64
    length: int = 2048
    skill: float = 0.6
    load_low: float = 0.3
    load_high: float = 1.8
    caller_share: float = 0.5

    def __call__(self, rng: np.random.Generator) -> Episode:
        """One episode of `length` decisions."""
        size = self.length + 1
        if len(self.trace) < size:
            raise ValueError(f"The trace holds {len(self.trace)} requests, an episode needs {size}.")
        first = int(rng.integers(0, len(self.trace) - size + 1))
        part = Trace(
            self.trace.arrival_s[first : first + size] - self.trace.arrival_s[first],
            self.trace.prompt_tokens[first : first + size],
            self.trace.output_tokens[first : first + size],
        )
        timings = (replayed, bursty, square, day)
        timing = timings[int(rng.choice(4, p=(0.5, 0.2, 0.2, 0.1)))]
        load = float(rng.uniform(self.load_low, self.load_high))
        return Scenario("drawn", load, timing).episode(
            part, self.capacity, self.rows, self._draw_caller(rng), self.skill, rng
        )

    def _draw_caller(self, rng: np.random.Generator) -> F64:
        if rng.random() < self.caller_share:
            return self.caller
        weights = rng.uniform(0.0, (2.0, 2.0, 1.0))
        target = self.caller[3] * np.exp(rng.uniform(-1.1, 1.1)) if self.caller[3] > 0.0 else 0.0
        return np.array([max(weights[0], 0.1), *weights[1:], target])
