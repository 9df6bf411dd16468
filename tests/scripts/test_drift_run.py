import numpy as np
import pytest

from scripts.benchmarks.load.drift_run import Course, lowest_window, moved_after


def _course(chosen: np.ndarray) -> Course:
    return Course(np.zeros(len(chosen)), chosen.astype(np.int64), np.zeros(len(chosen), dtype=np.int64))


def test_the_move_is_found_where_it_happens_whatever_the_noise() -> None:
    rng = np.random.default_rng(0)
    without = (rng.random(4000) < 0.4).astype(int)
    event = without.copy()
    event[1500:] = np.where(rng.random(2500) < 0.75, 0, event[1500:])  # event at 1000, noticed at 1500
    moved = moved_after(_course(event), _course(without), model=1, at=1000)
    assert moved == pytest.approx(400, abs=60)  # the first 200 requests that are half moved


def test_traffic_that_stays_has_not_moved() -> None:
    same = _course(np.arange(3000) % 3)
    assert moved_after(same, same, model=1, at=1000) is None


def test_the_worst_window_is_found() -> None:
    gain = np.ones(5000)
    gain[2000:2500] = -1.0
    assert lowest_window(gain) == pytest.approx(0.0)
    assert lowest_window(gain[:100]) == 1.0
