"""Training: rollouts and PPO updates until the decisions are used up; seeded, resumable, logged."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from policies.learned.checkpoint import new_manifest
from policies.learned.policy import LearnedPolicy
from policies.simulator.environment import DispatchVectorEnv
from policies.training.env_runner import EnvRunner, Rollout
from policies.training.network import DispatchNetwork
from policies.training.ppo import PPO, PPOConfig
from policies.utility import DEFAULT_BETA

Parameters = dict[str, npt.NDArray[np.float32]]
_LOGIT_LAYERS = ("policy.score.weight", "policy.score.bias", "policy.skip.weight")
# Features that hardly vary in the simulator but do in service: what a network would make of them is chance.
# The priced utility, on which its logits stand, takes weight and errors into account, the mask cold models.
UNVARIED: Final = ("weight", "error_rate", "cold", "age_s", "replicas")
Report = Callable[[int, Mapping[str, float]], None]  # decisions so far, metrics of the update


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How long and how wide. `lag` steps are held back until rewards are known, see EnvRunner.

    A served policy's logits are `sharpness` times the trained ones: PPO needs chance to learn from, the
    finished policy has epsilon for that.
    """

    decisions: int = 250_000
    steps: int = 64
    lag: int = 192
    hidden: int = 32
    beta: float = DEFAULT_BETA
    sharpness: float = 4.0
    drop: tuple[str, ...] = UNVARIED  # network features switched off
    seed: int = 0
    ppo: PPOConfig = field(default_factory=PPOConfig)


class Runners(Protocol):
    """Makes rollouts with given parameters: one EnvRunner here, or many on a cluster."""

    def sample(self, parameters: Parameters, steps: int) -> Rollout:
        """`steps` steps of every environment."""


class LocalRunners:
    """One EnvRunner in this process."""

    def __init__(self, make_env: Callable[[int], DispatchVectorEnv], config: TrainingConfig) -> None:
        network = new_network(config)
        self.runner = EnvRunner(make_env, network, config.beta, config.lag, config.ppo.horizon_s, config.seed)

    def sample(self, parameters: Parameters, steps: int) -> Rollout:
        """As Runners.sample."""
        self.runner.set_parameters(parameters)
        return self.runner.sample(steps)


def new_network(config: TrainingConfig) -> DispatchNetwork:
    """The network that training starts from: g = 0."""
    return DispatchNetwork(config.hidden, config.drop, config.seed)


def parameters_of(network: DispatchNetwork) -> Parameters:
    """The state dict as numpy arrays."""
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}


class Trainer:
    """The loop on one screen: parameters out, rollouts in, update, report."""

    def __init__(self, config: TrainingConfig, runners: Runners, device: str = "cpu") -> None:
        self.config = config
        self.runners = runners
        self.network = new_network(config).to(device)
        self.ppo = PPO(self.network, config.ppo, config.seed)
        self.decisions = 0

    def run(self, report: Report = lambda decisions, metrics: None) -> LearnedPolicy:
        """Train until `config.decisions`; returns the policy."""
        while self.decisions < self.config.decisions:
            started = time.perf_counter()
            rollout = self.runners.sample(parameters_of(self.network), self.config.steps)
            sampled = time.perf_counter()
            metrics = self.ppo.update(rollout, self.decisions / self.config.decisions)
            self.decisions += rollout.decisions
            metrics["sample_s"] = sampled - started
            metrics["update_s"] = time.perf_counter() - sampled
            report(self.decisions, metrics)
        return self.policy()

    def policy(self, data_range: Mapping[str, float] | None = None) -> LearnedPolicy:
        """The present policy, sharpened for serving; the value head stays behind."""
        config = self.config
        tensors = {
            name: value * np.float32(config.sharpness if name in _LOGIT_LAYERS else 1.0)
            for name, value in parameters_of(self.network).items()
            if not name.startswith("value.")
        }
        ranges = {"decisions": float(self.decisions), **(data_range or {})}
        manifest = new_manifest(tensors, config.beta * config.sharpness, config.hidden, ranges)
        return LearnedPolicy(tensors, manifest)

    def save(self, path: Path) -> None:
        """Everything needed to go on: network, optimiser moments, counters. No pickle."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, state in self.ppo.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        counters = (self.decisions, self.ppo.updates, self.ppo.return_mean, self.ppo.return_std)
        tensors["counters"] = torch.tensor(counters, dtype=torch.float64)
        partial = path.with_suffix(".partial")
        save_file(
            {name: value.contiguous().clone() for name, value in tensors.items()},
            partial,
            {"config": repr(asdict(self.config))},
        )
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Continue from `save`. Raises ValueError when the file belongs to another network."""
        tensors = load_file(path)
        network = {
            name.removeprefix("network."): value
            for name, value in tensors.items()
            if name.startswith("network.")
        }
        try:
            self.network.load_state_dict(network)
        except RuntimeError as error:
            raise ValueError(f"'{path.name}' belongs to another network: {error}") from error
        states: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                states.setdefault(int(index), {})[key] = value
        current = self.ppo.optimizer.state_dict()
        self.ppo.optimizer.load_state_dict({**current, "state": states})
        decisions, updates, mean, std = tensors["counters"].tolist()
        self.decisions, self.ppo.updates = int(decisions), int(updates)
        self.ppo.return_mean, self.ppo.return_std = mean, std
