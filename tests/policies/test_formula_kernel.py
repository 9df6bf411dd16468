"""The compiled formula, softmax and exploration are the plain ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from policies.formula_kernel import explored, formula_logits, masked_softmax
from policies.utility import Weights, observed_utility
from tests.policies.examples import observe

seeds, sizes = st.integers(0, 10_000), st.integers(1, 40)


@given(seeds, sizes)
def test_logits_are_those_of_the_formula(seed: int, models: int) -> None:
    rng = np.random.default_rng(seed)
    seen = observe(
        rng.random(models).tolist(),
        rng.random(models).tolist(),
        Weights(*rng.choice([0.0, 0.5, 2.0], 3).tolist()),
        mask=(rng.random(models) < 0.7).tolist(),
        weight=rng.choice([0.0, 0.5, 1.0], models).tolist(),
        cost_usd=rng.random(models).tolist(),
    )
    weight = seen.column("weight")
    logits = formula_logits(seen.rows, seen.caller, seen.mask, 20.0)
    known = seen.mask & (weight > 0.0)
    assert np.allclose(logits[known], (20.0 * weight * observed_utility(seen))[known])
    assert (logits[weight == 0.0] == -np.inf).all()


@given(seeds, sizes)
def test_the_softmax_is_over_what_is_allowed(seed: int, models: int) -> None:
    rng = np.random.default_rng(seed)
    logits, mask = 30.0 * rng.standard_normal(models), rng.random(models) < 0.6
    found = masked_softmax(logits, mask)
    assert np.allclose(found[mask], softmax(logits[mask]) if mask.any() else [])
    assert (found[~mask] == 0.0).all()


@given(seeds, sizes, st.floats(0.0, 0.05))
def test_exploration_is_mixed_in(seed: int, models: int, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    mask, weight = rng.random(models) < 0.6, rng.choice([0.0, 1.0], models)
    seen = observe([0.5] * models, [1.0] * models, mask=mask.tolist(), weight=weight.tolist())
    asked, out = rng.random(models), np.empty(models)
    assert explored(asked, seen.rows, seen.mask, epsilon, out) == mask.any()
    if mask.any():
        plausible = mask & (weight > 0.0)
        share = epsilon if plausible.any() else 0.0
        uniform = plausible / max(int(plausible.sum()), 1)
        assert np.allclose(out, (1.0 - share) * asked * mask / asked[mask].sum() + share * uniform)
