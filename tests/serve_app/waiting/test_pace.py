"""How long those that wait will hold a slot, told from those that are over."""

import pytest

from serve_app.waiting.pace import Pace


def test_nothing_is_known_before_the_first_is_over():
    assert Pace().of(3.0) == 0.0


def test_predictions_are_corrected_by_what_requests_took():
    pace = Pace()
    for _ in range(5):
        pace.ended(1.0, 3.0)
    assert pace.of(1.0) == pytest.approx(3.0)
    assert pace.of(2.0) == pytest.approx(6.0)


def test_a_prediction_is_believed_within_bounds():
    pace = Pace()
    pace.ended(0.001, 2.0)  # by a prediction that knew nothing
    assert pace.of(5.0) == pytest.approx(8.0)
    assert pace.of(0.0) == pytest.approx(0.5)


def test_the_newest_count_most():
    pace = Pace()
    pace.ended(1.0, 1.0)
    for _ in range(200):
        pace.ended(1.0, 2.0)
    assert pace.of(1.0) == pytest.approx(2.0, rel=0.01)
