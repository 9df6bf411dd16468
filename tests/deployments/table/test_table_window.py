"""Percentiles over the last minutes, close to the exact ones and gone when they are old."""

from collections.abc import Callable

import numpy as np
import pytest

from deployments.table.statistics import SLICES, WINDOW_S, Window
from policies.arrays import F64

SPAN_S = 0.99 * WINDOW_S * (SLICES - 1) / SLICES  # never longer than the window, wherever its slices begin

Draw = Callable[[np.random.Generator, int], F64]

SHAPES: dict[str, Draw] = {
    "uniform": lambda rng, n: rng.uniform(0.001, 1000.0, n),
    "long tail": lambda rng, n: rng.lognormal(0.0, 2.0, n),
    "many equal": lambda rng, n: np.round(rng.exponential(3.0, n)),
    "two values": lambda rng, n: np.where(rng.random(n) < 0.5, 1.0, 1000.0),
    "rising": lambda rng, n: np.linspace(0.0, 1.0, n),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [200, 3000])
def test_percentiles_have_about_their_rank(shape: str, count: int) -> None:
    rng = np.random.default_rng(count)
    values, began_s, window = SHAPES[shape](rng, count), rng.uniform(0.0, 1e9), Window()
    for i, value in enumerate(values):
        window.add(float(value), began_s + i * SPAN_S / count)
    found = window.quantiles(began_s + SPAN_S)
    assert found.count == count
    assert found.mean == pytest.approx(np.mean(values))
    ordered = np.sort(values)
    for value, rank, error in ((found.p50, 0.5, 0.06), (found.p95, 0.95, 0.02), (found.p99, 0.99, 0.01)):
        low = np.searchsorted(ordered, value, "left") / count
        high = np.searchsorted(ordered, value, "right") / count
        assert low - error <= rank <= high + error


def test_old_values_leave_slice_by_slice() -> None:
    window = Window()
    for i in range(SLICES):
        window.add(float(i), i * WINDOW_S / SLICES)
    assert window.quantiles(WINDOW_S - 1).count == SLICES
    assert window.quantiles(WINDOW_S + 1).count == SLICES - 1
    assert window.mean(WINDOW_S + 1) == pytest.approx(np.mean(range(1, SLICES)))
    assert window.quantiles(3 * WINDOW_S).count == 0
    assert np.isnan(window.quantiles(3 * WINDOW_S).p50)


def test_what_is_not_a_number_is_left_out() -> None:
    window = Window()
    for value in (None, float("nan"), float("inf"), 1.0):
        window.add(value, 0.0)
    assert window.quantiles(0.0).count == 1


def test_a_clock_that_steps_back_loses_nothing() -> None:
    window = Window()
    window.add(1.0, 1000.0)
    window.add(2.0, 900.0)
    assert window.quantiles(1000.0).count == 2


def test_a_dump_brings_the_same_percentiles_back() -> None:
    window, again = Window(), Window()
    for i in range(500):
        window.add(float(i), i / 10)
    again.load(window.dump())
    assert again.quantiles(60.0) == window.quantiles(60.0)
