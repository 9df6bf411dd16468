"""The dispatch task as a Gymnasium environment: one pool, one decision a step."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from policies.simulator.environment import observation_space
from policies.simulator.queues import OPEN
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import EpisodeSource, QualityTable

Observed = dict[str, npt.NDArray[Any]]


class DispatchEnv(gym.Env[Observed, np.int64]):
    """Choose a model for each arriving request of a simulated pool.

    ## Observation
    | key | shape | content |
    |---|---|---|
    | `rows` | [M, F] float32 | one row per model, columns MODEL_FIELDS |
    | `prompt` | [P] float32 | PROMPT_FIELDS of the request |
    | `caller` | [4] float32 | CALLER_FIELDS: the three weights and the latency target |
    | `mask` | [M] int8 | 1 where the model may be chosen |

    ## Action
    `Discrete(M)`: the model that gets the request. A model that is masked out rejects it.

    ## Reward
    The sum of the rewards (policies.reward) of requests that ended since the last step. Each belongs
    to an earlier decision: `info["completed"]` lists (decision number, reward) pairs.

    ## Time
    A step lasts until the next arrival, `info["elapsed_s"]` seconds; discount by gamma ** elapsed_s
    with gamma per second. An episode is truncated after its last request; what is open then is
    served without further arrivals, so that every reward is known.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self, models: Sequence[ModelSpec], table: QualityTable, source: EpisodeSource, **simulator: Any
    ) -> None:
        self.source = source
        self.simulator = QueueSimulator(models, table, 1, **simulator)
        self.observation_space: gym.Space[Any] = observation_space(len(models))
        self.action_space = self._actions = gym.spaces.Discrete(len(models))
        self._open: list[int] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """A new episode, drawn by the seeded generator."""
        super().reset(seed=seed)
        self.simulator.load(0, self.source(self.np_random))
        self.simulator.look(0)
        self._open = []
        return self._observed(), {"completed": [], "elapsed_s": 0.0}

    def step(self, action: np.int64) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Dispatch the request that was seen, go on to the next."""
        if not self.action_space.contains(action):
            raise ValueError(f"Action {action} is not a model: must lie in [0, {self._actions.n}).")
        stream = self.simulator.stream
        before = float(stream.arrival_s[0, stream.cursor[0]])
        self._open.append(int(stream.decided[0]))
        self.simulator.step(np.array([action], dtype=np.int64))
        info = {
            "completed": self._completed(),
            "elapsed_s": float(stream.arrival_s[0, stream.cursor[0]]) - before,
        }
        earned = float(self.simulator.earned[0])
        return self._observed(), earned, False, bool(self.simulator.ended[0]), info

    def _completed(self) -> list[tuple[int, float]]:
        done, still = [], []
        for decision in self._open:
            request = self.simulator.requests(0, decision, decision + 1)[0]
            if request["outcome"] == OPEN:
                still.append(decision)
            else:
                done.append((decision, float(request["reward"])))
        self._open = still
        return done

    def _observed(self) -> Observed:
        seen = self.simulator.seen
        return {
            "rows": seen.rows[0].copy(), "prompt": seen.prompt[0].copy(),
            "caller": seen.caller[0].copy(), "mask": seen.mask[0].copy(),
        }  # fmt: skip
