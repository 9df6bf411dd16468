"""PPO with generalised advantage estimation, for decisions at irregular times.

Sources: Schulman et al. 2017 (arXiv 1707.06347), Schulman et al. 2016 (arXiv 1506.02438); the discount of
semi-Markov decisions, gamma ** elapsed seconds, is Bradtke and Duff 1994. Shapes: T steps, N environments,
B decisions of a minibatch, M models, K features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from policies.arrays import F32
from policies.training.env_runner import Rollout
from policies.training.network import DispatchNetwork

_MOST_WEIGHT = 2.0  # of one decision of an older policy


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """Hyperparameters.

    `horizon_s` is the discount's time constant: gamma = exp(-1 / horizon_s) per second; 0 discounts
    everything but a decision's own reward. `credit` says what of the future is a decision's return:
    "delays", its own reward less what it cost others (policies.training.congestion), or "returns", the
    rewards of all later decisions, by GAE with `gae_lambda`.
    """

    horizon_s: float = 20.0
    credit: Literal["delays", "returns"] = "delays"
    gae_lambda: float = 0.9
    clip: float = 0.2
    epochs: int = 2
    minibatch: int = 2048
    learning_rate: float = 3e-3
    entropy_weight: float = 0.0
    value_weight: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float = 0.03


@dataclass(frozen=True, slots=True)
class LossInputs:
    """One minibatch: x [B, M, K], base and mask [B, M], the rest [B]; returns in normalised units.

    `log_probability` is that of the policy before this update, `advantage` weighted for the one that acted.
    """

    x: Tensor
    base: Tensor
    mask: Tensor
    action: Tensor
    log_probability: Tensor
    advantage: Tensor
    returns: Tensor


def ppo_loss(
    network: DispatchNetwork, batch: LossInputs, config: PPOConfig
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate + value_weight * value loss - entropy_weight * entropy, and what is worth logging.

    Pure: changes neither network nor batch.
    """
    log_pi = torch.log_softmax(network.logits(batch.x, batch.base, batch.mask), dim=-1)
    log_ratio = log_pi.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1) - batch.log_probability
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
    policy_loss = -torch.minimum(ratio * batch.advantage, clipped * batch.advantage).mean()
    value_loss = 0.5 * (network.state_value(batch.x, batch.mask) - batch.returns).square().mean()
    entropy = -(log_pi.exp() * log_pi.masked_fill(~batch.mask, 0.0)).sum(dim=-1).mean()
    loss = policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy
    metrics = {
        "policy_loss": policy_loss.item(),
        "value_loss": value_loss.item(),
        "entropy": entropy.item(),
        "approx_kl": ((ratio - 1.0) - log_ratio).mean().item(),
        "clip_share": ((ratio - 1.0).abs() > config.clip).float().mean().item(),
    }
    return loss, metrics


def advantages(rollout: Rollout, value: F32, horizon_s: float, gae_lambda: float) -> tuple[F32, F32]:
    """(advantage, return) [T, N] from value [T + 1, N]; gamma^dt = exp(-dt / horizon_s), 0 for horizon 0.

    delta_t = r_t + gamma^dt V_{t+1} - V_t;  A_t = delta_t + gamma^dt lambda A_{t+1}, cut after an
    episode's last decision, where V_{t+1} is the value of the truncated episode's final observation.
    """
    discount = (
        np.exp(-rollout.elapsed_s / np.float32(horizon_s)) if horizon_s else np.zeros_like(rollout.reward)
    )
    advantage = np.zeros_like(rollout.reward)
    carried = np.zeros(rollout.reward.shape[1], dtype=np.float32)
    for t in range(rollout.reward.shape[0] - 1, -1, -1):
        delta = rollout.reward[t] + discount[t] * value[t + 1] - value[t]
        carried = delta + np.where(rollout.ended[t], 0.0, discount[t] * gae_lambda * carried)
        carried = np.where(rollout.decided[t], carried, 0.0).astype(np.float32)
        advantage[t] = carried
    return advantage, advantage + value[:-1]


class PPO:
    """Updates a network from rollouts. Returns are normalised by running moments, part of the state."""

    def __init__(self, network: DispatchNetwork, config: PPOConfig, seed: int = 0) -> None:
        self.network = network
        self.config = config
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, eps=1e-5)
        self.return_mean, self.return_std = 0.0, 1.0
        self.updates = 0
        self._random = np.random.default_rng(seed)

    def update(self, rollout: Rollout, progress: float = 0.0) -> dict[str, float]:
        """Several epochs over one rollout; `progress` in [0, 1] anneals the learning rate to a tenth."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (1.0 - 0.9 * progress)
        value = self._values(rollout)
        advantage, returns = self.credited(rollout, value)
        decided = rollout.decided
        metrics = _explained(value[:-1][decided], returns[decided])
        self._track(returns[decided])
        data = self.flatten(rollout, advantage, returns)
        collected: list[dict[str, float]] = []
        for batch in self._minibatches(data):
            loss, losses = ppo_loss(self.network, batch, self.config)
            if losses["approx_kl"] > 1.5 * self.config.target_kl:
                metrics["stopped_early"] = 1.0
                break
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            losses["grad_norm"] = float(
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_grad_norm)
            )
            self.optimizer.step()
            collected.append(losses)
        self.updates += 1
        for name in collected[0] if collected else ():
            metrics[name] = float(np.mean([losses[name] for losses in collected]))
        metrics["reward"] = float(rollout.reward[decided].mean())
        metrics["delay_cost"] = float(rollout.delay_cost[decided].mean())
        metrics["censored"] = rollout.censored
        return metrics

    def credited(self, rollout: Rollout, value: F32) -> tuple[F32, F32]:
        """(advantage, return) [T, N] by the configured credit."""
        config = self.config
        if config.credit == "returns":
            return advantages(rollout, value, config.horizon_s, config.gae_lambda)
        return advantages(replace(rollout, reward=rollout.reward - rollout.delay_cost), value, 0.0, 0.0)

    def _values(self, rollout: Rollout) -> F32:
        """[T + 1, N] V in reward units."""
        device = self.network.keep.device
        with torch.no_grad():
            rows = [
                self.network.state_value(
                    torch.from_numpy(x).to(device), torch.from_numpy(mask).to(device)
                ).cpu()
                for x, mask in zip(rollout.features, rollout.mask, strict=True)
            ]
        return np.asarray(torch.stack(rows).numpy() * self.return_std + self.return_mean, dtype=np.float32)

    def _track(self, returns: F32) -> None:
        """Running moments of the returns; V is rescaled by them, so they move slowly after the start."""
        rate = max(0.05, 1.0 / (self.updates + 1))
        self.return_mean += rate * (float(returns.mean()) - self.return_mean)
        self.return_std += rate * (float(returns.std()) + 1e-6 - self.return_std)

    def flatten(self, rollout: Rollout, advantage: F32, returns: F32) -> LossInputs:
        """The decisions as one batch: advantages of mean 0 and deviation 1, returns in normalised units."""
        decided = rollout.decided
        taken = advantage[decided]
        taken = (taken - taken.mean()) / (taken.std() + 1e-8)
        arrays = (
            rollout.features[:-1][decided],
            rollout.base[:-1][decided],
            rollout.mask[:-1][decided],
            rollout.action[decided],
            rollout.log_probability[decided],
            taken,
            (returns[decided] - np.float32(self.return_mean)) / np.float32(self.return_std),
        )
        device = self.network.keep.device
        data = LossInputs(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))
        return self._recentred(data)

    def _recentred(self, data: LossInputs) -> LossInputs:
        """Clip around the present policy, weight by present / acting probability: rollouts lag behind.

        The decoupled objective of Hilton et al. 2021 (arXiv 2110.00641).
        """
        with torch.no_grad():
            log_pi = torch.log_softmax(self.network.logits(data.x, data.base, data.mask), dim=-1)
            present = log_pi.gather(-1, data.action.unsqueeze(-1)).squeeze(-1)
            weight = (present - data.log_probability).exp().clamp(max=_MOST_WEIGHT)
        return replace(data, log_probability=present, advantage=data.advantage * weight)

    def _minibatches(self, data: LossInputs) -> Iterator[LossInputs]:
        size = data.action.shape[0]
        for _ in range(self.config.epochs):
            order = torch.from_numpy(self._random.permutation(size)).to(data.action.device)
            for start in range(0, size, self.config.minibatch):
                index = order[start : start + self.config.minibatch]
                yield LossInputs(
                    data.x[index], data.base[index], data.mask[index], data.action[index],
                    data.log_probability[index], data.advantage[index], data.returns[index],
                )  # fmt: skip


def _explained(value: F32, returns: F32) -> dict[str, float]:
    spread = float(returns.var())
    share = 1.0 - float((returns - value).var()) / spread if spread > 0.0 else 0.0
    return {"explained_variance": share, "return": float(returns.mean())}
