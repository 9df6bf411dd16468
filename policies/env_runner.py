"""A plain rollout worker: steps the environment with a network, credits rewards to their decisions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from policies.network import DispatchNetwork
from policies.network_features import network_inputs
from policies.observation import MODEL_COLUMN
from policies.queue_kernel import OPEN
from policies.reward import lateness, reward
from policies.vector_environment import Batch, DispatchVectorEnv

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rollout:
    """T steps of N environments, oldest first; row T of the state arrays is what came after.

    Shapes: features [T + 1, N, M, K], base [T + 1, N, M] (the formula's logits), mask [T + 1, N, M];
    action, log_probability, reward, elapsed_s [T, N]; decided [T, N] False on reset steps; ended [T, N]
    True where the episode's last decision was made. `censored` is the share of rewards that were not
    yet known: there the score is the answer's, the latency the larger of its age and its prediction.
    """

    features: Floats
    base: Floats
    mask: Bools
    action: npt.NDArray[np.int64]
    log_probability: Floats
    reward: Floats
    elapsed_s: Floats
    decided: Bools
    ended: Bools
    censored: float = 0.0

    @property
    def decisions(self) -> int:
        """Decisions in the rollout, reset steps apart."""
        return int(self.decided.sum())


def concatenate(rollouts: list[Rollout]) -> Rollout:
    """Rollouts of one length side by side, as more environments."""
    joined = {
        field.name: np.concatenate([getattr(rollout, field.name) for rollout in rollouts], axis=1)
        for field in fields(Rollout)
        if field.name != "censored"
    }
    return Rollout(**joined, censored=float(np.mean([rollout.censored for rollout in rollouts])))


class EnvRunner:
    """Steps N environments; holds back the newest `lag` steps until their rewards are known.

    A request's reward is known when it completes, so a rollout of T steps is returned `lag` steps
    after it was made. `make_env` builds the environment; `beta` is the formula's.
    """

    def __init__(
        self,
        make_env: Callable[[int], DispatchVectorEnv],
        network: DispatchNetwork,
        beta: float,
        lag: int,
        seed: int,
    ) -> None:
        self.env = make_env(seed)
        self.network = network
        self.beta = beta
        self.lag = lag
        self._random = torch.Generator().manual_seed(seed)
        self._steps: list[dict[str, npt.NDArray[Any]]] = []
        observation, info = self.env.reset(seed=seed, options={"stagger": True})
        self._state = self._encode(observation, info["now_s"])

    def set_weights(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take over a network's state dict, as numpy arrays."""
        self.network.load_state_dict(
            {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
        )

    def sample(self, steps: int) -> Rollout:
        """Make `steps` more steps; return the oldest `steps` of those whose lag is over."""
        missing = steps + (self.lag if not self._steps else 0)
        for _ in range(missing):
            self._step()
        taken, self._steps = self._steps[:steps], self._steps[steps:]
        return self._rollout(taken)

    def _encode(self, observation: Batch, now_s: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any]]:
        rows, caller = observation["rows"], observation["caller"]
        mask = observation["mask"].astype(np.bool_)
        features, utility = network_inputs(rows, observation["prompt"], caller, mask)
        weight = rows[..., MODEL_COLUMN["weight"]]
        return {
            "features": features,
            "base": (self.beta * weight * utility).astype(np.float32),
            "mask": mask,
            "e2e_s": rows[..., MODEL_COLUMN["e2e_s"]],
            "now_s": now_s,
        }

    def _step(self) -> None:
        state = self._state
        with torch.no_grad():
            logits = self.network.logits(
                *(torch.from_numpy(state[name]) for name in ("features", "base", "mask"))
            )
            log_pi = torch.log_softmax(logits, dim=-1)
            action = torch.multinomial(log_pi.exp(), 1, generator=self._random)
            chosen = log_pi.gather(-1, action).squeeze(-1).numpy()
        observation, _, _, ended, info = self.env.step(action.squeeze(-1).numpy())
        self._state = self._encode(observation, info["now_s"])
        self._steps.append(
            {
                **state,
                "action": action.squeeze(-1).numpy(),
                "log_probability": chosen,
                "elapsed_s": np.where(info["decided"], self._state["now_s"] - state["now_s"], 0.0).astype(
                    np.float32
                ),
                "decided": info["decided"],
                "decision": info["decision"],
                "ended": ended,
            }
        )

    def _rollout(self, taken: list[dict[str, npt.NDArray[Any]]]) -> Rollout:
        after = self._steps[0] if self._steps else self._state
        columns = {name: np.stack([step[name] for step in taken]) for name in taken[0]}
        for name in ("features", "base", "mask"):
            columns[name] = np.concatenate((columns[name], after[name][None]))
        decision, decided = columns.pop("decision"), columns["decided"]
        predicted = np.take_along_axis(columns.pop("e2e_s"), columns["action"][..., None], axis=-1)[..., 0]
        rewards, censored = self._rewards(decision, columns.pop("now_s"), predicted)
        return Rollout(**columns, reward=rewards, censored=float(censored[decided].mean()))

    def _rewards(
        self, decision: npt.NDArray[np.int64], made_s: Any, predicted_s: Any
    ) -> tuple[Floats, Bools]:
        """[T, N] each decision's own reward, and whether it had to be estimated."""
        requests = self.env.simulator.queues.requests
        found = requests[np.arange(decision.shape[1])[None, :], decision % requests.shape[1]]
        values = found["reward"].astype(np.float32)
        still = found["outcome"] == OPEN
        latency_s = np.maximum(self._state["now_s"][None, :] - made_s, predicted_s)
        for t, n in np.argwhere(still):
            values[t, n] = self._estimate(int(n), found[t, n], float(latency_s[t, n]))
        return values, still

    def _estimate(self, pool: int, request: Any, latency_s: float) -> float:
        """The reward of an open request if it is answered after `latency_s`."""
        q = self.env.simulator.queues.pools[pool]
        share = float(request["cost_usd"] / q["cost_scale_usd"])
        weights = (float(q["accuracy_weight"]), float(q["latency_weight"]), float(q["cost_weight"]))
        return reward(float(request["score"]), lateness(latency_s, float(q["target_s"])), share, *weights)
