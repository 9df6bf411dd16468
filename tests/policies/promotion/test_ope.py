"""Off-policy estimators against a world whose truth is known."""

import numpy as np
import pytest

from policies.promotion.ope import (
    ESTIMATORS,
    Log,
    Voted,
    cross_fit,
    difference,
    effective_sample_size,
    evaluate,
    unsupported_mass,
)

TRUE_REWARD = np.array([0.2, 0.5, 0.8])


def world(rng: np.random.Generator, count: int = 3000, bias: float = 0.0) -> tuple[Log, np.ndarray, float]:
    """A log over three models, a target policy [N, M], and the target's true value."""
    context = rng.random(count)
    mean = np.clip(TRUE_REWARD + 0.3 * (context[:, None] - 0.5) * np.array([1.0, 0.0, -1.0]), 0.0, 1.0)
    logging = np.tile(np.array([0.6, 0.3, 0.1]), (count, 1))
    actions = rng.choice(3, size=count, p=logging[0])
    rewards = rng.binomial(1, mean[np.arange(count), actions]).astype(float)
    target = np.where(context[:, None] < 0.5, np.array([0.1, 0.1, 0.8]), np.array([0.2, 0.6, 0.2]))
    log = Log(actions, rewards, logging, mean + bias)
    return log, target, float((target * mean).sum(axis=1).mean())


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "dm"])
def test_unbiased_estimators_cover_the_truth_with_a_wrong_reward_model(name: str) -> None:
    rng = np.random.default_rng(0)
    inside, values = 0, []
    for _ in range(200):
        log, target, truth = world(rng, bias=0.2)
        estimate = evaluate(name, log, target)
        inside += estimate.fixed.low <= truth <= estimate.fixed.high
        values.append(estimate.value - truth)
    assert inside / 200 >= 0.90
    assert abs(np.mean(values)) < 0.01


def test_direct_method_inherits_the_reward_models_bias() -> None:
    log, target, truth = world(np.random.default_rng(1), bias=0.2)
    assert evaluate("dm", log, target).value == pytest.approx(truth + 0.2, abs=0.02)


def test_doubly_robust_is_tighter_than_ips_with_a_good_reward_model() -> None:
    log, target, _ = world(np.random.default_rng(2))
    width = {
        name: evaluate(name, log, target).fixed.high - evaluate(name, log, target).value
        for name in ESTIMATORS
    }
    assert width["sndr"] < width["ips"]
    assert width["dr"] < width["ips"]


def test_anytime_bound_contains_the_fixed_one() -> None:
    log, target, _ = world(np.random.default_rng(3))
    estimate = evaluate("sndr", log, target)
    assert estimate.anytime.low < estimate.fixed.low < estimate.fixed.high < estimate.anytime.high


def test_difference_of_a_policy_with_itself_is_zero() -> None:
    log, target, _ = world(np.random.default_rng(4))
    estimate = difference("sndr", log, target, target)
    assert (estimate.value, estimate.fixed.low, estimate.fixed.high) == (0.0, 0.0, 0.0)


def test_effective_sample_size_counts_equal_weights_fully() -> None:
    assert effective_sample_size(np.ones(10)) == 10.0
    assert effective_sample_size(np.array([1.0, 0.0, 0.0])) == 1.0
    assert effective_sample_size(np.zeros(3)) == 0.0


def test_unsupported_mass_is_what_the_log_never_tried() -> None:
    log, target, _ = world(np.random.default_rng(5))
    never = Log(
        log.actions,
        log.rewards,
        log.logging * np.array([1.0, 1.0, 0.0]) + np.array([0.1, 0.0, 0.0]),
        log.predicted,
    )
    assert unsupported_mass(log, target) == 0.0
    assert unsupported_mass(never, target) == pytest.approx(target[:, 2].mean())


def test_a_row_that_cannot_have_been_drawn_is_refused() -> None:
    log = Log(np.array([1]), np.array([1.0]), np.array([[1.0, 0.0]]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="propensity"):
        evaluate("ips", log, np.array([[0.5, 0.5]]))


def test_targets_must_be_distributions() -> None:
    log = Log(np.array([0]), np.array([1.0]), np.array([[0.5, 0.5]]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="must be a distribution"):
        evaluate("ips", log, np.array([[0.5, 0.6]]))


def test_cross_fit_never_predicts_a_row_from_itself() -> None:
    seen: list[tuple[set[int], set[int]]] = []

    def fit(rows):  # type: ignore[no-untyped-def]
        def predict(held_out):  # type: ignore[no-untyped-def]
            seen.append((set(rows.tolist()), set(held_out.tolist())))
            return np.repeat(held_out[:, None].astype(float), 2, axis=1)

        return predict

    predicted = cross_fit(20, 4, fit)
    assert all(not fitted & held_out for fitted, held_out in seen)
    assert predicted[:, 0].tolist() == list(range(20))


def half_blind(
    rng: np.random.Generator, share: float, count: int = 4000
) -> tuple[Log, np.ndarray, np.ndarray]:
    """Two models, one worse by .2 than the quality model says; votes on a share of the answers."""
    logging = np.tile(np.array([0.5, 0.5]), (count, 1))
    actions = rng.integers(0, 2, count)
    predicted, true = np.full((count, 2), 0.6), np.array([0.6, 0.4])
    score = rng.binomial(1, true[actions]).astype(float)
    rows = rng.random(count) < share
    rewards = np.where(rows, score, 0.6)
    log = Log(actions, rewards, logging, predicted, Voted(rows, np.where(rows, score - 0.6, 0.0)))
    return log, np.tile(np.array([0.0, 1.0]), (count, 1)), np.tile(np.array([1.0, 0.0]), (count, 1))


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_where_the_quality_model_is_wrong_few_votes_tell_the_truth(share: float) -> None:
    rng = np.random.default_rng(7)
    values, inside = [], 0
    for _ in range(200):
        log, worse, better = half_blind(rng, share)
        estimate = difference("sndr", log, worse, better)
        values.append(estimate.value)
        inside += estimate.fixed.low <= -0.2 <= estimate.fixed.high
    assert np.mean(values) == pytest.approx(-0.2, abs=0.015)
    assert inside / 200 >= 0.85  # each side holds with 95 %


def test_taken_for_rewards_that_were_seen_predictions_hide_what_votes_say() -> None:
    log, worse, better = half_blind(np.random.default_rng(7), 0.05)
    blind = Log(log.actions, log.rewards, log.logging, log.predicted)
    assert difference("sndr", blind, worse, better).value > -0.03


def test_a_handful_of_votes_says_nothing() -> None:
    log, worse, better = half_blind(np.random.default_rng(7), 0.003)
    assert difference("sndr", log, worse, better).value == 0.0
