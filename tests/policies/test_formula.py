"""The formula, and what is sampled of logits: each the same as plain numpy says."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from policies.arrays import F64
from policies.formula import explored, formula_logits, masked_softmax, relative, utility
from policies.observation import Observation
from policies.utility import Weights
from tests.policies.examples import observe

amounts = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=8)


def test_the_worked_example() -> None:
    value = utility(
        accuracy=np.array([0.9, 0.8]),
        latency_s=np.array([0.100, 0.050]),
        cost_usd=np.zeros(2),
        weights=Weights(accuracy=2.0, latency=1.0),
        mask=np.array([True, True]),
    )
    assert np.allclose(value, [2.3, 2.6], atol=1e-6)


@given(amounts)
def test_relative_amounts_lie_in_the_unit_interval_and_the_smallest_has_1(values: list[float]) -> None:
    ratio = relative(np.array(values), np.ones(len(values), dtype=bool))
    assert (ratio > 0.0).all()
    assert (ratio <= 1.0).all()
    assert ratio[int(np.argmin(values))] == 1.0


@given(amounts.filter(lambda v: len(v) > 1))
def test_what_is_masked_does_not_set_the_scale(values: list[float]) -> None:
    mask = np.ones(len(values), dtype=bool)
    mask[0] = False
    changed = [0.0, *values[1:]]
    assert np.array_equal(relative(np.array(values), mask)[1:], relative(np.array(changed), mask)[1:])


def test_cost_counts_only_with_a_weight() -> None:
    same = {"accuracy": np.array([0.5, 0.5]), "latency_s": np.ones(2), "mask": np.ones(2, dtype=bool)}
    cost = np.array([1e-3, 1e-5])
    free = utility(cost_usd=cost, weights=Weights(1.0, 1.0, 0.0), **same)
    priced = utility(cost_usd=cost, weights=Weights(1.0, 1.0, 1.0), **same)
    assert free[0] == free[1]
    assert priced[1] > priced[0]


def _plain(observation: Observation) -> F64:
    """The formula in numpy."""
    latency, cost = observation.column("e2e_s"), observation.column("cost_usd")
    a1, a2, a3 = observation.caller[:3]
    fastest = latency[observation.mask].min(initial=np.inf)
    cheapest = cost[observation.mask].min(initial=np.inf)
    speed = np.minimum((fastest + 1e-9) / (latency + 1e-9), 1.0)
    cheapness = np.minimum((cheapest + 1e-9) / (cost + 1e-9), 1.0)
    return a1 * observation.column("accuracy") + a2 * speed + a3 * cheapness


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_logits_are_those_of_the_formula(seed: int, models: int) -> None:
    rng = np.random.default_rng(seed)
    observation = observe(
        rng.random(models).tolist(),
        rng.random(models).tolist(),
        Weights(*rng.choice([0.0, 0.5, 2.0], 3).tolist()),
        mask=(rng.random(models) < 0.7).tolist(),
        weight=rng.choice([0.0, 0.5, 1.0], models).tolist(),
        cost_usd=rng.random(models).tolist(),
    )
    weight = observation.column("weight")
    logits = formula_logits(observation.rows, observation.caller, observation.mask, 20.0)
    known = observation.mask & (weight > 0.0)
    assert np.allclose(logits[known], (20.0 * weight * _plain(observation))[known])
    assert (logits[weight == 0.0] == -np.inf).all()


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_the_softmax_is_over_what_is_allowed(seed: int, models: int) -> None:
    rng = np.random.default_rng(seed)
    logits, mask = 30.0 * rng.standard_normal(models), rng.random(models) < 0.6
    chances = masked_softmax(logits, mask)
    assert np.allclose(chances[mask], softmax(logits[mask]) if mask.any() else [])
    assert (chances[~mask] == 0.0).all()


@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.0, 0.05))
def test_exploration_is_mixed_in(seed: int, models: int, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    mask, weight = rng.random(models) < 0.6, rng.choice([0.0, 1.0], models)
    observation = observe([0.5] * models, [1.0] * models, mask=mask.tolist(), weight=weight.tolist())
    wanted, out = rng.random(models), np.empty(models)
    assert explored(wanted, observation.rows, observation.mask, epsilon, out) == mask.any()
    if mask.any():
        plausible = mask & (weight > 0.0)
        share = epsilon if plausible.any() else 0.0
        uniform = plausible / max(int(plausible.sum()), 1)
        assert np.allclose(out, (1.0 - share) * wanted * mask / wanted[mask].sum() + share * uniform)
