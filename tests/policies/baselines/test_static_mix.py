"""The best static mix: against what can be worked out by hand and by trying."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.baselines.static_mix import best_mix

FREE = np.zeros(2)


def test_without_limits_everything_goes_to_the_best() -> None:
    mix = best_mix(np.array([0.9, 0.6]), FREE)
    assert mix.shares.tolist() == [1.0, 0.0]
    assert (mix.value, mix.unserved) == (0.9, 0.0)


def test_a_budget_mixes_two_models_so_that_it_is_spent_exactly() -> None:
    mix = best_mix(np.array([0.9, 0.6]), np.array([1e-5, 1e-7]), budget_usd=5e-6)
    assert np.isclose(mix.cost_usd, 5e-6, rtol=1e-6)
    assert np.isclose(mix.shares[0], (5e-6 - 1e-7) / (1e-5 - 1e-7))


def test_capacity_limits_a_share_and_what_finds_no_room_is_told() -> None:
    mix = best_mix(np.array([0.9, 0.6]), FREE, capacity_per_s=np.array([2.0, 5.0]), demand_per_s=10.0)
    assert np.allclose(mix.shares, [0.2, 0.5])
    assert np.isclose(mix.unserved, 0.3)


def test_serving_comes_before_value() -> None:
    mix = best_mix(np.array([0.9, -0.5]), FREE, capacity_per_s=np.array([5.0, 5.0]), demand_per_s=10.0)
    assert np.allclose(mix.shares, [0.5, 0.5])


def test_importance_weights_decide_and_0_takes_a_model_out() -> None:
    mix = best_mix(np.array([0.9, 0.6]), FREE, weight=np.array([0.5, 1.0]))
    assert mix.shares.tolist() == [0.0, 1.0]
    assert best_mix(np.array([0.9, 0.6]), FREE, weight=np.array([0.0, 1.0])).shares[0] == 0.0


unit = st.floats(0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(unit, unit), min_size=2, max_size=5), st.floats(0.05, 1.0), st.integers(0, 2**32 - 1)
)
def test_no_other_mix_within_the_budget_is_better(
    models: list[tuple[float, float]], budget_usd: float, seed: int
) -> None:
    value, cost_usd = np.array(models).T
    cost_usd[0] = 0.0
    mix = best_mix(value, cost_usd, budget_usd=budget_usd)
    assert mix.shares @ cost_usd <= budget_usd + 1e-6
    assert mix.unserved < 1e-6
    others = np.random.default_rng(seed).dirichlet(np.ones(len(models)), size=200)
    others = others[others @ cost_usd <= budget_usd]
    assert (others @ value <= mix.value + 1e-6).all()


@pytest.mark.parametrize(
    ("value", "cost_usd", "complaint"),
    [
        ([np.nan, 1.0], [0.0, 0.0], "value"),
        ([1.0, 1.0], [0.0], "cost_usd"),
        ([1.0, 1.0], [0.0, -1.0], "no cost below 0"),
        ([], [], "at least one"),
    ],
)
def test_unusable_numbers_are_refused(value: list[float], cost_usd: list[float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        best_mix(np.array(value), np.array(cost_usd))
