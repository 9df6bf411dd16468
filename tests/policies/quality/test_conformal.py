"""The floor under single answers holds on prompts that nobody saw, whatever is chosen of what is left."""

import math

import numpy as np
import pytest

from policies.quality.conformal import is_reachable, lowest_allowed, risk, threshold_for

FLOOR = 0.5


def answers(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions [N, 3] that are calibrated, and scores of 0 or 1."""
    rng = np.random.default_rng(seed)
    predicted = rng.beta(2.0, 1.0, (count, 3))
    return predicted, (rng.random((count, 3)) < predicted).astype(np.float64)


@pytest.mark.parametrize("alpha", [0.15, 0.2, 0.3])
def test_on_new_prompts_the_share_below_the_floor_is_at_most_alpha(alpha: float) -> None:
    shares = []
    for seed in range(40):
        predicted, scores = answers(400, seed)
        threshold = threshold_for(predicted, scores, FLOOR, alpha)
        fresh, truth = answers(1_000, 1_000 + seed)
        chosen = lowest_allowed(fresh, threshold)
        shares.append(float((truth[np.arange(1_000), chosen] < FLOOR).mean()))
    assert np.mean(shares) <= alpha + 0.005
    assert np.mean(shares) >= alpha - 0.06  # and is not bought by always taking the best


def test_what_no_choice_can_keep_is_said() -> None:
    predicted, scores = answers(400, 1)
    assert math.isinf(threshold_for(predicted, scores, FLOOR, 0.001))
    assert not is_reachable(predicted, scores, FLOOR, 0.001)
    assert is_reachable(predicted, scores, FLOOR, 0.5)


def test_the_lowest_that_is_let_through_or_else_the_highest() -> None:
    predicted = np.array([[0.2, 0.6, 0.9], [0.1, 0.2, 0.3]])
    assert lowest_allowed(predicted, 0.5).tolist() == [1, 2]


def test_unknown_answers_do_not_count() -> None:
    predicted = np.array([[0.9], [0.9], [0.9]])
    scores = np.array([[1.0], [np.nan], [0.0]])
    assert risk(predicted, scores, FLOOR, 0.0) == pytest.approx(2 / 3)
