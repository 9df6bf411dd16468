"""Bounds must hold as often as they say."""

import numpy as np
import pytest

from policies.promotion.confidence import (
    Betting,
    confidence_sequence,
    mean_bound,
    rescale,
)


def test_mean_bound_covers_one_sided_at_its_level() -> None:
    rng = np.random.default_rng(0)
    misses = sum(mean_bound(rng.normal(0.3, 1.0, 40)).low > 0.3 for _ in range(2000))
    assert misses / 2000 == pytest.approx(0.05, abs=0.015)


def test_mean_bound_says_nothing_from_one_value() -> None:
    bound = mean_bound(np.array([0.4]))
    assert (bound.low, bound.high) == (-np.inf, np.inf)


def test_confidence_sequence_holds_at_every_look() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        x = rng.binomial(1, 0.4, 1500).astype(float)
        count = np.arange(1, len(x) + 1)
        means = np.cumsum(x) / count
        looks = range(50, 1500, 10)
        wrong += any(
            confidence_sequence(means[i], x[: i + 1].var(ddof=1), i + 1, alpha=0.05).low > 0.4 for i in looks
        )
    assert wrong / 300 <= 0.07


def test_peeking_at_fixed_bounds_would_be_wrong() -> None:
    rng = np.random.default_rng(2)
    wrong = sum(
        any(mean_bound(x[:i]).low > 0.0 for i in range(50, 1500, 10))
        for x in rng.normal(0.0, 1.0, (200, 1500))
    )
    assert wrong / 200 > 0.10


def test_confidence_sequence_shrinks() -> None:
    widths = [confidence_sequence(0.0, 1.0, n).high for n in (10, 100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)


def test_betting_rarely_rejects_a_true_null() -> None:
    rng = np.random.default_rng(3)
    rejected = 0
    for _ in range(400):
        test = Betting(0.5)
        for x in rng.beta(2.0, 2.0, 400):
            test.update(float(x))
        rejected += test.rejects(0.05)
    assert rejected / 400 <= 0.05


def test_betting_finds_a_real_edge() -> None:
    rng = np.random.default_rng(4)
    test = Betting(0.5)
    for x in rng.beta(3.0, 2.0, 400):
        test.update(float(x))
    assert test.rejects(0.05)


@pytest.mark.parametrize("x", [-0.1, 1.1, float("nan")])
def test_betting_refuses_values_outside_its_range(x: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Betting(0.5).update(x)


def test_rescale_clips() -> None:
    assert [rescale(v, -1.0, 1.0) for v in (-3.0, 0.0, 1.0)] == [0.0, 0.5, 1.0]
