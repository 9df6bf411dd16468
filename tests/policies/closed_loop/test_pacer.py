import numpy as np
import pytest

from policies.closed_loop.pacer import Foreseen, Pacer, price_for


def world(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and costs [N, 3]: cheap and poor, fair, dear and good; what the dear one adds varies."""
    random = np.random.default_rng(seed)
    gain = random.random((count, 1))
    rewards = np.concatenate([0.5 * np.ones_like(gain), 0.6 + 0.1 * gain, 0.7 + 0.3 * gain**2], axis=1)
    return rewards, np.array([0.001, 0.01, 0.1]) * random.lognormal(0.0, 0.3, size=(count, 3))


def paced(budget_usd: float, rewards: np.ndarray, costs: np.ndarray) -> Pacer:
    pacer = Pacer(budget_usd)
    pacer.foresee(rewards, -costs, costs)
    return pacer


def choose(pacer: Pacer, rewards: np.ndarray, costs: np.ndarray) -> int:
    return int(np.where(pacer.affordable(costs), rewards - pacer.price * costs, -np.inf).argmax())


def run(budget_usd: float, bias: float, seed: int) -> tuple[float, float]:
    pacer = paced(budget_usd, *world(800, seed))
    rewards, costs = world(2000, seed + 1)
    total = 0.0
    for row in range(2000):
        chosen = choose(pacer, rewards[row], costs[row])
        foreseen = Foreseen(rewards[row], -costs[row], costs[row])
        pacer.observe(foreseen, chosen, bias * float(costs[row, chosen]))
        total += float(rewards[row, chosen])
    return total / 2000, pacer.spent_usd / 2000


@pytest.mark.parametrize("budget_usd", [0.002, 0.01, 0.03, 0.08])
@pytest.mark.parametrize("bias", [0.7, 1.0, 1.4])
def test_spending_ends_within_the_budget_though_predictions_are_off(budget_usd: float, bias: float) -> None:
    _, cost = run(budget_usd, bias, seed=3)
    assert cost <= budget_usd
    assert cost >= 0.85 * budget_usd


def test_a_budget_beyond_every_cost_does_not_bind() -> None:
    rewards, costs = world(500, 0)
    assert price_for(rewards, -costs, costs, 1.0) == 0.0
    reward, _ = run(1.0, 1.0, seed=5)
    assert reward == pytest.approx(world(2000, 6)[0].max(axis=1).mean())


def test_the_price_falls_as_the_budget_grows() -> None:
    rewards, costs = world(500, 0)
    prices = [price_for(rewards, -costs, costs, budget) for budget in (0.002, 0.01, 0.03, 0.08, 0.2)]
    assert prices == sorted(prices, reverse=True)


def test_pacing_earns_more_than_mixing_at_random_for_the_same_money() -> None:
    rewards, costs = world(2000, 9)
    share = (0.03 - costs[:, 1].mean()) / (costs[:, 2].mean() - costs[:, 1].mean())
    mixed = (1 - share) * rewards[:, 1].mean() + share * rewards[:, 2].mean()
    assert run(0.03, 1.0, seed=8)[0] > mixed + 0.01


def test_one_very_dear_answer_does_not_send_the_next_hundred_to_a_weak_model() -> None:
    rewards = np.tile([0.5, 0.9, 0.95], (500, 1))
    costs = np.array([0.001, 0.008, 0.2]) * np.random.default_rng(0).lognormal(0.0, 0.05, size=(500, 3))
    pacer = paced(0.01, rewards, costs)
    good = 0
    for row in range(140):
        chosen = 2 if row == 39 else choose(pacer, rewards[row], costs[row])
        foreseen = Foreseen(rewards[row], -costs[row], costs[row])
        pacer.observe(foreseen, chosen, 0.5 if row == 39 else float(costs[row, chosen]))
        good += int(row >= 40 and chosen == 1)
    assert good > 90


def test_the_cheapest_model_is_always_affordable() -> None:
    pacer = paced(0.0005, *world(100, 0))
    pacer.observe(Foreseen(np.ones(3), np.full(3, -0.1), np.full(3, 0.1)), 2, 5.0)
    assert pacer.affordable(np.array([0.001, 0.01, 0.1])).tolist() == [True, False, False]


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="budget_usd"):
        Pacer(0.0)


def test_a_pacer_that_starts_knowing_nothing_keeps_the_budget() -> None:
    pacer, (rewards, costs) = Pacer(0.01), world(3000, 4)
    for row in range(3000):
        chosen = choose(pacer, rewards[row], costs[row])
        pacer.observe(Foreseen(rewards[row], -costs[row], costs[row]), chosen, float(costs[row, chosen]))
    assert 0.85 * 0.01 <= pacer.spent_usd / 3000 <= 0.01


def test_what_was_saved_long_ago_is_not_spent_all_at_once() -> None:
    pacer, cheap = Pacer(0.01), Foreseen(np.ones(1), np.zeros(1), np.zeros(1))
    for _ in range(5000):
        pacer.observe(cheap, 0, 0.0)
    assert pacer.budget_usd * pacer.requests - pacer.spent_usd == pytest.approx(200 * 0.01)
