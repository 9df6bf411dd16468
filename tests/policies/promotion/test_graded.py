"""Graded pairs catch what the quality model does not see, and nothing else."""

import numpy as np

from policies.promotion.graded import GradedPair, QualityTest


def run(drop: float, predicted_drop: float, seed: int, pairs: int = 400) -> QualityTest:
    """Pairs in which the candidate's answer is right less often by `drop`, which was predicted in part."""
    rng, test = np.random.default_rng(seed), QualityTest(0.02)
    for _ in range(pairs):
        other, tested = float(rng.random() < 0.7), float(rng.random() < 0.7 - drop)
        test.add(GradedPair(tested, other, 0.7 - predicted_drop, 0.7))
    return test


def test_a_loss_that_was_not_predicted_is_found() -> None:
    assert sum(run(0.25, 0.0, seed).is_worse(0.02) for seed in range(20)) >= 18


def test_a_loss_that_was_predicted_is_the_slices_matter() -> None:
    assert sum(run(0.25, 0.25, seed).is_worse(0.05) for seed in range(60)) <= 4


def test_an_error_for_both_versions_alike_is_none_of_the_candidate() -> None:
    assert GradedPair(0.2, 0.2, 0.9, 0.9).residual == 0.0
