"""Sampling: seeded, exact, and never what has probability 0."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decision import (
    draw,
    hash64,
    is_distribution,
    rendezvous,
    uniform_from_seed,
)

seeds = st.integers(0, 2**64 - 1)
distributions = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12).filter(lambda p: sum(p) > 1e-6)


@given(seeds)
def test_uniform_numbers_lie_in_the_unit_interval_and_repeat(seed: int) -> None:
    assert 0.0 <= uniform_from_seed(seed) < 1.0
    assert uniform_from_seed(seed) == uniform_from_seed(seed)


@pytest.mark.parametrize(("seed", "published"), [(0, 0xE220A8397B1DCDAF), (1, 0x910A2DEC89025CC1)])
def test_the_generator_is_splitmix64(seed: int, published: int) -> None:
    assert uniform_from_seed(seed) == (published >> 11) / 2**53


@given(distributions, seeds)
def test_a_drawn_model_has_positive_probability(probabilities: list[float], seed: int) -> None:
    assert probabilities[draw(np.array(probabilities), seed)] > 0.0


def test_draws_follow_the_distribution() -> None:
    pi = np.array([0.1, 0.0, 0.6, 0.3])
    counts = np.bincount([draw(pi, hash64(str(i))) for i in range(20_000)], minlength=4) / 20_000
    assert np.abs(counts - pi).max() < 0.015


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="all 0"):
        draw(np.zeros(3), 1)


def test_rendezvous_follows_the_distribution() -> None:
    pi, models = np.array([0.1, 0.0, 0.6, 0.3]), ("a", "b", "c", "d")
    picks = [rendezvous(pi, models, hash64(f"s{i}")) for i in range(20_000)]
    counts = np.bincount(picks, minlength=4) / 20_000
    assert np.abs(counts - pi).max() < 0.015


def test_rendezvous_moves_only_the_sessions_of_a_model_that_leaves() -> None:
    models = ("a", "b", "c")
    full, without = np.array([0.3, 0.4, 0.3]), np.array([0.3, 0.0, 0.3])
    for i in range(500):
        before = rendezvous(full, models, hash64(f"s{i}"))
        after = rendezvous(without, models, hash64(f"s{i}"))
        assert after == before or before == 1


floats = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(floats, max_size=5), st.lists(st.booleans(), max_size=5))
def test_what_is_accepted_as_a_distribution_can_be_sampled(values: list[float], mask: list[bool]) -> None:
    pi, allowed = np.array(values, dtype=float), np.array(mask, dtype=bool)
    if is_distribution(pi, allowed):
        assert np.isfinite(pi).all()
        assert (pi >= 0.0).all()
        assert float(pi[~allowed].sum()) < 1e-6
        assert abs(float(pi.sum()) - 1.0) < 1e-5
