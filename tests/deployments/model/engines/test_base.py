from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.model.engines.base import EngineStats, RateWindow


def test_old_values_leave() -> None:
    window = RateWindow(2.0)
    window.add(0.0, 10)
    window.add(1.5, 4)
    assert window.total(1.9) == 14
    assert window.total(3.0) == 4
    assert window.total(9.0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1e6)), max_size=50))
def test_the_total_is_the_sum_of_the_window(steps: list[tuple[float, float]]) -> None:
    window, now_s, entries = RateWindow(3.0), 0.0, []
    for gap_s, value in steps:
        now_s += gap_s
        window.add(now_s, value)
        entries.append((now_s, value))
    expected = sum(value for at_s, value in entries if at_s >= now_s - 3.0)
    assert window.total(now_s) == pytest.approx(expected, abs=1e-3)
    assert window.per_s(now_s) == pytest.approx(expected / 3.0, abs=1e-3)


def test_a_step_under_way_is_no_stall_unless_it_never_ends() -> None:
    computing = EngineStats(running=1, progressed_s=0.0, is_computing=True)
    assert replace(computing, is_computing=False).is_stalled(31.0, 30.0)
    assert not computing.is_stalled(301.0, 30.0)
    assert computing.is_stalled(601.0, 30.0)
    assert not replace(computing, running=0, is_computing=False).is_stalled(1e9, 30.0)


def test_an_engine_that_is_known_for_long_steps_has_the_time_for_several() -> None:
    slow = EngineStats(running=1, progressed_s=0.0, longest_step_s=25.0)
    assert not slow.is_stalled(249.0, 30.0)
    assert slow.is_stalled(251.0, 30.0)
    assert replace(slow, longest_step_s=1.0).is_stalled(31.0, 30.0)


def test_the_step_under_way_is_timed_where_something_is_computed() -> None:
    computing = EngineStats(waiting=1, progressed_s=5.0, is_computing=True)
    assert computing.step_s(12.0) == 7.0
    assert replace(computing, is_computing=False).step_s(12.0) == 0.0
    assert replace(computing, waiting=0).step_s(12.0) == 0.0
