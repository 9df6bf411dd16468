import numpy as np
import pytest

from scripts.benchmarks.load.drift_beliefs import QualityCorrection, SpeedCorrection


def test_a_silent_loss_of_quality_is_noticed_within_some_tens_of_answers() -> None:
    correction = QualityCorrection(2)
    for _ in range(100):
        correction.add(0, 0.8, 0.8)
    assert correction.apply(np.array([0.8, 0.5])) == pytest.approx([0.8, 0.5])
    for _ in range(40):
        correction.add(0, 0.2, 0.8)
    assert correction.apply(np.array([0.8, 0.5]))[0] < 0.55
    assert correction.apply(np.array([0.8, 0.5]))[1] == 0.5


def test_one_answer_moves_little_and_results_stay_within_bounds() -> None:
    correction = QualityCorrection(1)
    correction.add(0, 0.0, 0.9)
    assert correction.apply(np.array([0.9]))[0] > 0.8
    for _ in range(200):
        correction.add(0, 0.0, 1.0)
    assert correction.apply(np.array([0.3]))[0] == 0.0


def test_speed_follows_measurements_whatever_was_expected_before() -> None:
    speed = SpeedCorrection(2)
    for _ in range(100):
        speed.add(1, 0.05, 0.01 * speed.factor[1])
    assert speed.factor == pytest.approx([1.0, 5.0], rel=0.01)
    speed.add(1, 0.0, 0.01)
    assert speed.factor[1] == pytest.approx(5.0, rel=0.01)
