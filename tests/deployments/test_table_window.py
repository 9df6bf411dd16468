"""Percentiles over the last minutes, close to the exact ones and gone when they are old."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.table_window import SLICES, WINDOW_S, Window


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.001, 1000.0), min_size=200, max_size=2000), st.floats(0.0, 1e9))
def test_percentiles_have_about_their_rank(values: list[float], now_s: float) -> None:
    window = Window()
    for i, value in enumerate(values):
        window.add(value, now_s + i * 0.9 * WINDOW_S / len(values))
    found = window.quantiles(now_s + 0.9 * WINDOW_S)
    assert found.count == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    ordered = np.sort(values)
    for value, rank in ((found.p50, 0.5), (found.p95, 0.95), (found.p99, 0.99)):
        low = np.searchsorted(ordered, value, "left") / len(values)
        high = np.searchsorted(ordered, value, "right") / len(values)
        assert low - 0.03 <= rank <= high + 0.03


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
