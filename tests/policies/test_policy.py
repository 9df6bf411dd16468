"""The policy interface: what comes out can be sampled, whatever a subclass does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.arrays import F64
from policies.formula_kernel import masked_softmax
from policies.observation import Observation
from policies.policy import Policy, PolicyError
from tests.policies.examples import observe


class Given(Policy):
    """Gives what it was given."""

    name = "given"

    def __init__(self, values: list[float]) -> None:
        self.values = np.array(values, dtype=np.float64)

    def distribution(self, observation: Observation) -> F64:
        return self.values


numbers = st.floats(allow_nan=True, allow_infinity=True)
masks = st.lists(st.booleans(), min_size=3, max_size=3)


@given(st.lists(numbers, min_size=3, max_size=3), masks, st.floats(0.0, 0.05))
def test_what_comes_out_is_a_distribution_over_the_mask_or_an_error(
    values: list[float], mask: list[bool], epsilon: float
) -> None:
    seen = observe([0.5] * 3, [1.0] * 3, mask=mask)
    try:
        pi = Given(values).probabilities(seen, epsilon)
    except PolicyError:
        return
    assert np.isfinite(pi).all()
    assert abs(float(pi.sum()) - 1.0) < 1e-9
    assert (pi[~seen.mask] == 0.0).all()
    assert (pi >= 0.0).all()


@pytest.mark.parametrize("values", [[float("nan"), 1.0], [float("inf"), 1.0], [-1.0, 2.0], [0.0, 0.0]])
def test_numbers_that_are_no_distribution_are_refused(values: list[float]) -> None:
    with pytest.raises(PolicyError, match="given"):
        Given(values).probabilities(observe([0.5, 0.5], [1.0, 1.0]))


def test_the_wrong_shape_is_refused() -> None:
    with pytest.raises(PolicyError):
        Given([0.2, 0.3, 0.5]).probabilities(observe([0.5, 0.5], [1.0, 1.0]))


def test_exploration_is_spread_over_plausible_models_only() -> None:
    seen = observe([0.5] * 4, [1.0] * 4, mask=[True, True, True, False], weight=[1.0, 1.0, 0.0, 1.0])
    pi = Given([1.0, 0.0, 0.0, 0.0]).probabilities(seen, epsilon=0.04)
    assert np.allclose(pi, [0.98, 0.02, 0.0, 0.0])


def test_a_decision_repeats_from_observation_seed_and_epsilon() -> None:
    seen, policy = observe([0.5, 0.6, 0.7], [1.0, 2.0, 3.0]), Given([0.2, 0.3, 0.5])
    for seed in range(50):
        first, again = policy.decide(seen, seed, 0.05), policy.decide(seen, seed, 0.05)
        assert (first.model, first.propensity) == (again.model, again.propensity)
        assert first.propensity == first.probabilities[first.index]
        assert first.model == seen.models[first.index]


def test_a_softmax_over_nothing_has_no_mass() -> None:
    assert masked_softmax(np.array([1.0, 2.0]), np.array([False, False])).tolist() == [0.0, 0.0]


def test_huge_logits_do_not_overflow() -> None:
    pi = masked_softmax(np.array([1e300, -1e300, 0.0]), np.ones(3, dtype=bool))
    assert pi.tolist() == [1.0, 0.0, 0.0]
