from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.learned.features import FEATURES
from policies.training.env_runner import Rollout
from policies.training.network import DispatchNetwork
from policies.training.ppo import PPO, LossInputs, PPOConfig, advantages, ppo_loss

K = len(FEATURES)


def _rollout(steps: int = 64, environments: int = 8, models: int = 3, seed: int = 0) -> Rollout:
    """A bandit with a known answer: feature 1 (accuracy) of the chosen model is the reward."""
    rng = np.random.default_rng(seed)
    features = rng.random((steps + 1, environments, models, K)).astype(np.float32)
    action = rng.integers(0, models, (steps, environments))
    reward = np.take_along_axis(features[:-1, :, :, 1], action[..., None], axis=2)[..., 0]
    return Rollout(
        features=features,
        base=np.zeros((steps + 1, environments, models), dtype=np.float32),
        mask=np.ones((steps + 1, environments, models), dtype=np.bool_),
        action=action,
        log_probability=np.full((steps, environments), -np.log(models), dtype=np.float32),
        reward=reward,
        delay_cost=np.zeros_like(reward),
        elapsed_s=np.ones((steps, environments), dtype=np.float32),
        decided=np.ones((steps, environments), dtype=np.bool_),
        ended=np.zeros((steps, environments), dtype=np.bool_),
    )


def test_advantages_are_the_discounted_sums_in_seconds() -> None:
    rollout = _rollout(steps=3, environments=1)
    rollout = replace(rollout, elapsed_s=np.array([[1.0], [2.0], [0.5]], dtype=np.float32))
    value = np.array([[0.0], [0.0], [0.0], [10.0]], dtype=np.float32)
    r = rollout.reward[:, 0]
    g = np.exp(-np.array([1.0, 2.0, 0.5]) / 2.0)
    expected = r[0] + g[0] * (r[1] + g[1] * (r[2] + g[2] * 10.0))
    advantage, returns = advantages(rollout, value, 2.0, 1.0)
    assert advantage[0, 0] == pytest.approx(expected, rel=1e-5)
    assert returns[0, 0] == pytest.approx(expected, rel=1e-5)


def test_a_truncated_episode_is_bootstrapped_and_the_reset_step_carries_nothing() -> None:
    rollout = _rollout(steps=3, environments=1)
    rollout = replace(
        rollout,
        ended=np.array([[True], [False], [False]]),
        decided=np.array([[True], [False], [True]]),
        reward=np.array([[1.0], [99.0], [2.0]], dtype=np.float32),
    )
    value = np.array([[0.5], [7.0], [3.0], [4.0]], dtype=np.float32)
    advantage, _ = advantages(rollout, value, 1.0, 0.9)
    assert advantage[0, 0] == pytest.approx(1.0 + np.exp(-1.0) * 7.0 - 0.5, rel=1e-5)
    assert advantage[1, 0] == 0.0
    assert advantage[2, 0] == pytest.approx(2.0 + np.exp(-1.0) * 4.0 - 3.0, rel=1e-5)


def test_horizon_zero_counts_only_the_decisions_own_reward() -> None:
    rollout = _rollout(steps=4)
    value = np.zeros((5, 8), dtype=np.float32)
    advantage, _ = advantages(rollout, value, 0.0, 0.9)
    assert np.array_equal(advantage, rollout.reward)


def test_a_decision_is_credited_with_its_reward_less_the_delays_it_caused() -> None:
    rollout = _rollout(steps=2)
    rollout = replace(rollout, delay_cost=np.full_like(rollout.reward, 0.25))
    ppo = PPO(DispatchNetwork(8), PPOConfig(credit="delays"))
    value = np.full((3, 8), 0.5, dtype=np.float32)
    advantage, returns = ppo.credited(rollout, value)
    assert advantage == pytest.approx(rollout.reward - 0.75)
    assert returns == pytest.approx(rollout.reward - 0.25)
    by_returns = PPO(DispatchNetwork(8), PPOConfig(credit="returns", horizon_s=5.0))
    assert np.array_equal(by_returns.credited(rollout, value)[0], advantages(rollout, value, 5.0, 0.9)[0])


def test_a_rollout_of_an_older_policy_is_weighted_by_what_the_present_one_would_do() -> None:
    rollout = _rollout(steps=2)
    older = replace(rollout, log_probability=rollout.log_probability - np.float32(np.log(1.5)))
    ppo = PPO(DispatchNetwork(8), PPOConfig())
    advantage, returns = ppo.credited(rollout, np.zeros((3, 8), dtype=np.float32))
    now, then = (ppo.flatten(r, advantage, returns) for r in (rollout, older))
    assert torch.allclose(now.log_probability, then.log_probability)
    assert torch.allclose(then.advantage, 1.5 * now.advantage, rtol=1e-4)


def _inputs(network: DispatchNetwork, advantage: torch.Tensor, shift: float = 0.0) -> LossInputs:
    rollout = _rollout(steps=2, environments=3)
    x, base, mask = (
        torch.from_numpy(a[:-1].reshape(6, *a.shape[2:]))
        for a in (rollout.features, rollout.base, rollout.mask)
    )
    action = torch.from_numpy(rollout.action.reshape(6))
    with torch.no_grad():
        log_pi = torch.log_softmax(network.logits(x, base, mask), dim=-1)
        old = log_pi.gather(-1, action.unsqueeze(-1)).squeeze(-1) + shift
    return LossInputs(x, base, mask, action, old, advantage, torch.zeros(6))


def test_loss_is_pure_and_starts_at_ratio_one() -> None:
    network = DispatchNetwork(8)
    advantage = torch.tensor([1.0, -1.0, 2.0, 0.5, 0.0, 3.0])
    batch = _inputs(network, advantage)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss, metrics = ppo_loss(network, batch, PPOConfig(value_weight=0.0, entropy_weight=0.0))
    assert loss.item() == pytest.approx(-advantage.mean().item(), rel=1e-5)
    assert metrics["clip_share"] == 0.0
    assert metrics["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["entropy"] == pytest.approx(np.log(3.0), rel=1e-5)
    again, _ = ppo_loss(network, batch, PPOConfig(value_weight=0.0, entropy_weight=0.0))
    assert again.item() == loss.item()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_ratio_is_clipped_only_where_that_lowers_the_objective() -> None:
    network = DispatchNetwork(8)
    config = PPOConfig(value_weight=0.0, entropy_weight=0.0, clip=0.2)
    up = _inputs(network, torch.ones(6), shift=-1.0)  # ratio e
    assert ppo_loss(network, up, config)[0].item() == pytest.approx(-1.2, rel=1e-5)
    down = _inputs(network, -torch.ones(6), shift=-1.0)
    assert ppo_loss(network, down, config)[0].item() == pytest.approx(np.e, rel=1e-4)


def test_updates_find_the_rewarding_model_and_repeat_exactly() -> None:
    def trained(seed: int) -> DispatchNetwork:
        network = DispatchNetwork(16, seed=seed)
        ppo = PPO(network, PPOConfig(horizon_s=0.0, minibatch=128, learning_rate=3e-3), seed)
        for round_ in range(8):
            metrics = ppo.update(_rollout(seed=round_))
            assert all(np.isfinite(value) for value in metrics.values())
        return network

    one, other = trained(1), trained(1)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    test = _rollout(seed=99)
    x, base, mask = (torch.from_numpy(a) for a in (test.features, test.base, test.mask))
    with torch.no_grad():
        pi = torch.softmax(one.logits(x, base, mask), dim=-1)
    expected = (pi.numpy() * test.features[..., 1]).sum(-1).mean()
    assert expected > test.features[..., 1].mean() + 0.05


def test_masked_models_have_no_probability_and_no_influence() -> None:
    network = DispatchNetwork(8)
    torch.nn.init.normal_(network.policy.score.weight)
    x = torch.rand(5, 4, K)
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[:, 2] = False
    logits = network.logits(x, torch.zeros(5, 4), mask)
    changed = x.clone()
    changed[:, 2] += 3.0
    assert torch.isneginf(logits[:, 2]).all()
    assert torch.allclose(logits, network.logits(changed, torch.zeros(5, 4), mask))
    assert torch.allclose(network.state_value(x, mask), network.state_value(changed, mask))
