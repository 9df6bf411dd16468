"""The policy interface: what comes out can be sampled, whatever a subclass does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.arrays import F64
from policies.formula import masked_softmax, observed_utility
from policies.observation import Observation
from policies.policy import FormulaPolicy, Policy, PolicyError
from policies.utility import Weights
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


unit = st.floats(0.0, 1.0)
latency = st.floats(0.01, 100.0)
pools = st.integers(2, 6).flatmap(
    lambda m: st.tuples(st.lists(unit, min_size=m, max_size=m), st.lists(latency, min_size=m, max_size=m))
)


def test_the_worked_example_picks_b() -> None:
    seen = observe([0.9, 0.8], [0.100, 0.050], Weights(accuracy=2.0, latency=1.0))
    assert np.allclose(observed_utility(seen), [2.3, 2.6], atol=1e-6)
    pi = FormulaPolicy().probabilities(seen)
    assert pi[1] > 0.99
    assert np.isclose(pi[1] / pi[0], np.exp(20.0 * 0.3), rtol=1e-3)


def test_importance_weights_scale_the_logit_and_0_takes_a_model_out() -> None:
    seen = observe([0.9, 0.8], [1.0, 1.0], weight=[0.5, 1.0])
    assert np.allclose(FormulaPolicy(beta=1.0).logits(seen), [0.5 * 1.9, 1.8])
    out = observe([0.9, 0.8], [1.0, 1.0], weight=[0.0, 1.0])
    assert FormulaPolicy().probabilities(out, epsilon=0.05).tolist() == [0.0, 1.0]


@given(pools, st.floats(0.0, 5.0), st.floats(0.1, 5.0))
def test_more_weight_on_accuracy_never_lowers_the_expected_accuracy(
    pool: tuple[list[float], list[float]], start: float, more: float
) -> None:
    accuracy = np.array(pool[0])
    before = FormulaPolicy().probabilities(observe(*pool, Weights(start, 1.0, 0.0)))
    after = FormulaPolicy().probabilities(observe(*pool, Weights(start + more, 1.0, 0.0)))
    assert after @ accuracy >= before @ accuracy - 1e-9


@given(pools, st.floats(0.0, 5.0), st.floats(0.1, 5.0))
def test_more_weight_on_latency_never_lowers_the_expected_speed(
    pool: tuple[list[float], list[float]], start: float, more: float
) -> None:
    speed = min(pool[1]) / np.array(pool[1])
    before = FormulaPolicy().probabilities(observe(*pool, Weights(1.0, start, 0.0)))
    after = FormulaPolicy().probabilities(observe(*pool, Weights(1.0, start + more, 0.0)))
    assert after @ speed >= before @ speed - 1e-9


@given(pools, st.permutations(range(6)))
def test_the_order_of_models_does_not_matter(pool: tuple[list[float], list[float]], order: list[int]) -> None:
    kept = [i for i in order if i < len(pool[0])]
    straight = FormulaPolicy().probabilities(observe(*pool))
    turned = FormulaPolicy().probabilities(observe([pool[0][i] for i in kept], [pool[1][i] for i in kept]))
    assert np.allclose(straight[kept], turned, atol=1e-9)


def test_beta_must_be_positive() -> None:
    with pytest.raises(ValueError, match="beta"):
        FormulaPolicy(0.0)
