"""The closed loop of budget, quality floor and latency target."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.closed_loop.duals import Duals, DualSettings, Paced
from policies.closed_loop.pacer import Foreseen
from policies.formula import relative, utility
from policies.policy import FormulaPolicy
from policies.profile import Profile
from policies.utility import Weights
from tests.policies.examples import observe

ACCURACY = np.array([0.9, 0.75, 0.5])
LATENCY_S = np.array([4.0, 2.0, 0.5])
COST_USD = np.array([1e-2, 1e-3, 1e-4])
SETTINGS = DualSettings(step=0.02, most=20.0)
MODELS = ("a", "b", "c")
EVERY = np.ones(3, dtype=bool)


def paced(asked: Weights, chosen: int) -> Paced:
    value = utility(ACCURACY, LATENCY_S, COST_USD, asked, EVERY)
    return Paced(MODELS, Foreseen(value, relative(COST_USD, EVERY), COST_USD), chosen)


def run(profile: Profile, steps: int = 3_000, seed: int = 0) -> tuple[Duals, dict[str, float]]:
    """A loop of formula and outcomes; the mean cost over all of it, the other means over its last half."""
    duals, random = Duals(profile, SETTINGS), np.random.default_rng(seed)
    policy, seen = FormulaPolicy(), []
    for _ in range(steps):
        weights = duals.weights(profile.weights)
        pi = policy.probabilities(observe([*ACCURACY], [*LATENCY_S], weights, cost_usd=[*COST_USD]))
        i = int(random.choice(3, p=pi))
        quality = float(random.random() < ACCURACY[i])
        duals.observe(COST_USD[i], quality, float(LATENCY_S[i]), paced(profile.weights, i))
        seen.append((COST_USD[i], quality, LATENCY_S[i] > profile.target_s))
    cost = np.mean([one[0] for one in seen])
    _, quality, late = np.mean(seen[steps // 2 :], axis=0)
    return duals, {"cost": float(cost), "quality": float(quality), "late": float(late)}


def test_without_constraints_the_weights_are_those_asked_for() -> None:
    duals = Duals(Profile())
    duals.observe(1.0, 0.0, 1e9)
    asked = Weights(1.0, 2.0, 3.0)
    assert duals.weights(asked) == asked


@settings(max_examples=4, deadline=None)
@given(st.floats(5e-4, 8e-3))
def test_the_mean_cost_comes_down_to_the_budget(budget_usd: float) -> None:
    accurate = Profile(weights=Weights(10.0, 0.0, 0.0), budget_usd=budget_usd)
    _, mean = run(accurate)
    assert 0.8 * budget_usd <= mean["cost"] <= 1.05 * budget_usd


def test_the_quality_floor_is_reached() -> None:
    fast = Profile(weights=Weights(0.5, 1.0, 0.0), quality_floor=0.7)
    duals, mean = run(fast)
    assert mean["quality"] >= 0.67
    assert duals.quality > 0.0


def test_late_requests_come_down_to_the_allowed_share() -> None:
    accurate = Profile(weights=Weights(3.0, 0.0, 0.0), target_s=1.0)
    _, mean = run(accurate)
    assert mean["late"] <= 1.5 * SETTINGS.late_share


def test_multipliers_fall_back_to_0_when_there_is_slack() -> None:
    duals = Duals(Profile(budget_usd=1.0, quality_floor=0.5, target_s=1.0), SETTINGS)
    dear = Profile(weights=Weights(10.0, 0.0, 0.0)).weights
    for _ in range(200):
        duals.observe(10.0, 0.0, 9.0, paced(dear, 0))
    assert min(duals.budget, duals.quality, duals.latency) > 0.0
    for _ in range(20_000):
        duals.observe(0.0, 1.0, 0.1, paced(dear, 0))
    assert (duals.budget, duals.quality, duals.latency) == (0.0, 0.0, 0.0)


@given(st.lists(st.tuples(st.floats(0, 1e300), st.floats(0, 1), st.floats(0, 1e300)), max_size=300))
def test_multipliers_stay_within_their_bounds(outcomes: list[tuple[float, float, float]]) -> None:
    duals = Duals(Profile(budget_usd=1e-4, quality_floor=0.8, target_s=0.5), DualSettings(step=0.5, most=4.0))
    for outcome in outcomes:
        duals.observe(*outcome, paced(Weights(), 1))
        for multiplier in (duals.budget, duals.quality, duals.latency):
            assert 0.0 <= multiplier <= 4.0


def test_a_pool_of_other_models_is_priced_anew() -> None:
    duals = Duals(Profile(budget_usd=2e-4), SETTINGS)
    for _ in range(40):
        duals.observe(1e-2, None, None, paced(Weights(10.0, 0.0, 0.0), 0))
    assert duals.budget > 0.0
    alone = Paced(("d",), Foreseen(np.ones(1), np.ones(1), np.array([1e-4])), 0)
    for _ in range(20_000):
        duals.observe(1e-4, None, None, alone)
    assert duals.budget == 0.0


def test_an_unknown_quality_teaches_nothing() -> None:
    duals = Duals(Profile(quality_floor=0.8))
    duals.observe(0.0, None, None)
    assert duals.quality == pytest.approx(0.0)
