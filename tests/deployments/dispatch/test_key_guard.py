"""Per-key protection: exploration caps, budgets, the alarm."""

import pytest

from deployments.dispatch.key_guard import KeyGuard
from deployments.dispatch.settings import DispatchSettings

DAY_S = 86_400.0


def guard(**settings: object) -> KeyGuard:
    return KeyGuard(DispatchSettings.model_validate({"epsilon": 0.05, **settings}))


def test_no_key_explores_more_than_its_share() -> None:
    kept = guard(exploration={"key_share": 0.02, "usd_per_day": 1e9})
    explored = 0
    for i in range(10_000):
        wants = kept.epsilon("k") > 0.0
        explored += wants
        assert explored <= 0.02 * (i + 1)
        kept.chosen("k", 0.0, 0.0, expensive=False, explored=wants)
    assert explored == 200


def test_exploration_stops_for_the_day_when_its_dollars_are_spent() -> None:
    kept = guard(exploration={"usd_per_day": 1.0})
    for _ in range(100):
        kept.chosen("k", 0.0, 0.0, expensive=False, explored=False)
    assert kept.epsilon("k") == 0.05
    kept.chosen("other", 0.0, 1.5, expensive=False, explored=True)
    assert kept.epsilon("k") == 0.0
    kept.chosen("k", DAY_S + 1.0, 0.0, expensive=False, explored=False)
    assert kept.epsilon("k") == 0.05


def test_epsilon_0_switches_exploration_off() -> None:
    kept = guard(epsilon=0.0)
    for _ in range(100):
        kept.chosen("k", 0.0, 0.0, expensive=False, explored=False)
    assert kept.epsilon("k") == 0.0


def test_a_budget_is_spent_by_day_and_by_key() -> None:
    kept = guard(guard={"key_usd_per_day": 1.0})
    kept.spend("k", 100.0, 0.9)
    assert not kept.is_spent("k", 100.0)
    kept.spend("k", 200.0, 0.2)
    assert kept.is_spent("k", 300.0)
    assert not kept.is_spent("other", 300.0)
    assert not kept.is_spent("k", DAY_S + 1.0)
    kept.spend("k", 300.0, -0.5)
    assert not kept.is_spent("k", 300.0)


def test_without_a_budget_nothing_is_ever_spent() -> None:
    kept = guard()
    kept.spend("k", 0.0, 1e9)
    assert not kept.is_spent("k", 0.0)


def test_a_key_that_suddenly_gets_expensive_models_is_alarmed_and_recovers() -> None:
    kept, now_s = guard(), 0.0
    for i in range(2_000):
        kept.chosen("k", now_s + i, 0.0, expensive=i % 20 == 0, explored=False)
        assert not kept.is_alarmed("k")
    attack = 0
    while not kept.is_alarmed("k"):
        attack += 1
        kept.chosen("k", 2_000.0 + attack, 0.0, expensive=True, explored=False)
        assert attack < 120
    assert not kept.is_alarmed("other")
    for i in range(400):
        kept.chosen("k", 3_000.0 + i, 0.0, expensive=False, explored=False)
    assert not kept.is_alarmed("k")


def test_a_key_that_always_used_expensive_models_is_not_alarmed() -> None:
    kept = guard()
    for i in range(1_000):
        kept.chosen("k", float(i), 0.0, expensive=True, explored=False)
        assert not kept.is_alarmed("k")


def test_what_the_load_does_to_every_key_is_no_attack() -> None:
    kept = guard()
    for i in range(8_000):
        for key in ("a", "b", "c"):
            kept.chosen(key, float(i), 0.0, expensive=i >= 7_000, explored=False)
        assert i < 7_400 or not kept.is_alarmed("a")


def test_old_behaviour_fades_with_the_window() -> None:
    kept = guard(guard={"window_days": 1.0})
    for i in range(1_000):
        kept.chosen("k", float(i), 0.0, expensive=False, explored=False)
    for i in range(1_000):
        kept.chosen("k", 20 * DAY_S + i, 0.0, expensive=True, explored=False)
    assert not kept.is_alarmed("k")


@pytest.mark.parametrize("keys", [10_050])
def test_memory_is_bounded_by_the_most_recent_keys(keys: int) -> None:
    kept = guard(guard={"key_usd_per_day": 1.0})
    for i in range(keys):
        kept.spend(f"k{i}", 0.0, 2.0)
    assert not kept.is_spent("k0", 0.0)
    assert kept.is_spent(f"k{keys - 1}", 0.0)
