"""The formula as a policy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.policy import FormulaPolicy
from policies.utility import Weights, observed_utility
from tests.policies.examples import observe

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
