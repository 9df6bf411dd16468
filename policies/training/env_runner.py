"""A plain rollout worker: steps the environment with a network, credits rewards and delays to decisions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from policies.arrays import F32, Bools
from policies.learned.features import network_inputs
from policies.observation import MODEL_COLUMN
from policies.reward import NO_TARGET_S, lateness, reward
from policies.simulator.environment import Batch, DispatchVectorEnv
from policies.simulator.queues import OPEN
from policies.training.congestion import Served, delay_cost
from policies.training.network import DispatchNetwork


@dataclass(frozen=True, slots=True)
class Rollout:
    """T steps of N environments, oldest first; row T of the state arrays is what came after.

    Shapes: features [T + 1, N, M, K], base [T + 1, N, M] (the formula's logits), mask [T + 1, N, M];
    action, log_probability, reward, delay_cost, elapsed_s [T, N]; decided [T, N] False on reset steps;
    ended [T, N] True where the episode's last decision was made. `delay_cost` is what the decision cost
    others, see policies.training.congestion. `censored` is the share of rewards that were not yet known:
    there the score is the answer's, the latency the larger of its age and its prediction.
    """

    features: F32
    base: F32
    mask: Bools
    action: npt.NDArray[np.int64]
    log_probability: F32
    reward: F32
    delay_cost: F32
    elapsed_s: F32
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

    A request's reward is known when it completes, and what it cost others when they do, so a rollout of T
    steps is returned `lag` steps after it was made. `make_env` builds the environment; `beta` is the
    formula's; `horizon_s` is the time constant that discounts delays of others, 0 leaves them out.
    """

    def __init__(
        self,
        make_env: Callable[[int], DispatchVectorEnv],
        network: DispatchNetwork,
        beta: float,
        lag: int,
        horizon_s: float,
        seed: int,
    ) -> None:
        self.env = make_env(seed)
        self.network = network
        self.beta = beta
        self.lag = lag
        self.horizon_s = horizon_s
        self._random = torch.Generator().manual_seed(seed)
        self._steps: list[dict[str, npt.NDArray[Any]]] = []
        observation, info = self.env.reset(seed=seed, options={"stagger": True})
        self._state = self._encode(observation, info["now_s"])

    def set_parameters(self, parameters: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take over a network's state dict, as numpy arrays."""
        self.network.load_state_dict(
            {name: torch.from_numpy(np.array(value)) for name, value in parameters.items()}
        )

    def sample(self, steps: int) -> Rollout:
        """Make `steps` more steps; return the oldest `steps` of those whose lag is over."""
        missing = steps + (self.lag if not self._steps else 0)
        for _ in range(missing):
            self._step()
        rollout = self._rollout(steps)
        self._steps = self._steps[steps:]
        return rollout

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
            "full": rows[..., MODEL_COLUMN["in_flight"]] >= rows[..., MODEL_COLUMN["slots"]],
            "now_s": now_s,
        }

    def _step(self) -> None:
        state = self._state
        with torch.no_grad():
            logits = self.network.logits(
                *(torch.from_numpy(state[name]) for name in ("features", "base", "mask"))
            )
            log_pi = torch.log_softmax(logits, dim=-1)
            drawn = torch.multinomial(log_pi.exp(), 1, generator=self._random)
            chosen = log_pi.gather(-1, drawn).squeeze(-1).numpy()
        action = drawn.squeeze(-1).numpy()
        observation, _, _, ended, info = self.env.step(action)
        self._state = self._encode(observation, info["now_s"])
        elapsed_s = np.where(info["decided"], self._state["now_s"] - state["now_s"], 0.0)
        pools = np.arange(action.shape[0])
        self._steps.append(
            {
                **{name: state[name] for name in ("features", "base", "mask", "now_s")},
                "predicted_s": state["e2e_s"][pools, action],
                "waited": state["full"][pools, action],
                "action": action,
                "log_probability": chosen,
                "elapsed_s": elapsed_s.astype(np.float32),
                "decided": info["decided"],
                "decision": info["decision"],
                "ended": ended,
            }
        )

    def _rollout(self, steps: int) -> Rollout:
        after = self._steps[steps] if len(self._steps) > steps else self._state
        kept = ("action", "log_probability", "elapsed_s", "decided", "ended")
        columns = {name: np.stack([step[name] for step in self._steps[:steps]]) for name in kept}
        for name in ("features", "base", "mask"):
            columns[name] = np.stack([*(step[name] for step in self._steps[:steps]), after[name]])
        requests, e2e_s = self._requests()
        rewards, censored = self._rewards(requests[:steps], e2e_s[:steps])
        cost = np.zeros_like(rewards)
        if self.horizon_s > 0.0:
            cost = delay_cost(self._served(requests, e2e_s), self.horizon_s, steps).astype(np.float32)
        share = float(censored[columns["decided"]].mean())
        return Rollout(**columns, reward=rewards, delay_cost=cost, censored=share)

    def _requests(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.float64]]:
        """Each held step's request, and its latency: for an open one the larger of age and prediction."""
        decision, made_s, predicted_s = (
            np.stack([step[name] for step in self._steps]) for name in ("decision", "now_s", "predicted_s")
        )
        kept = self.env.simulator.queues.requests
        requests = kept[np.arange(decision.shape[1])[None, :], decision % kept.shape[1]]
        so_far_s = np.maximum(self._state["now_s"][None, :] - made_s, predicted_s)
        return requests, np.where(requests["outcome"] == OPEN, so_far_s, requests["e2e_s"])

    def _rewards(self, requests: npt.NDArray[np.void], e2e_s: Any) -> tuple[F32, Bools]:
        """[T, N] each decision's own reward, and whether it had to be estimated."""
        values = requests["reward"].astype(np.float32)
        still = requests["outcome"] == OPEN
        for t, n in np.argwhere(still):
            values[t, n] = self._estimate(int(n), requests[t, n], float(e2e_s[t, n]))
        return values, still

    def _estimate(self, pool: int, request: Any, latency_s: float) -> float:
        """The reward of an open request if it is answered after `latency_s`."""
        q = self.env.simulator.queues.pools[pool]
        share = float(request["cost_usd"] / q["cost_scale_usd"])
        weights = (float(q["accuracy_weight"]), float(q["latency_weight"]), float(q["cost_weight"]))
        return reward(float(request["score"]), lateness(latency_s, float(q["target_s"])), share, *weights)

    def _served(self, requests: npt.NDArray[np.void], e2e_s: npt.NDArray[np.float64]) -> Served:
        """How the held steps shared the engines. A reset step belongs to no model."""
        model, arrival_s, waited, decided, ended = (
            np.stack([step[name] for step in self._steps])
            for name in ("action", "now_s", "waited", "decided", "ended")
        )
        p = self.env.simulator.queues.params[np.arange(model.shape[1])[None, :], model]
        prefill_s = requests["prompt_tokens"] / p["prefill_tokens_per_s"]
        full_step_s = p["step_base_s"] + p["step_per_sequence_s"] * p["slots"]
        ttft_s = np.minimum(np.nan_to_num(requests["ttft_s"], nan=np.inf), e2e_s)
        pools = self.env.simulator.queues.pools
        allowed_s = pools["target_s"]
        scale_s = np.where(allowed_s > 0.0, allowed_s, NO_TARGET_S)
        part_late = (e2e_s > allowed_s) & (e2e_s < allowed_s + scale_s)
        return Served(
            model=np.where(decided, model, -1),
            episode=np.cumsum(ended, axis=0) - ended,
            arrival_s=arrival_s,
            start_s=arrival_s + ttft_s - prefill_s,
            end_s=arrival_s + e2e_s,
            waited=waited,
            work_s=(prefill_s + requests["output_tokens"] * full_step_s / p["slots"]) / p["max_replicas"],
            prefill_s=prefill_s / p["max_replicas"],
            slope=np.where(part_late, pools["latency_weight"] / scale_s, 0.0),
        )
