"""The dispatch task as Gymnasium environments: one pool, or many stepped by one compiled call."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from policies.observation import CALLER_FIELDS, MODEL_FIELDS, PROMPT_FIELDS, Field
from policies.simulator.queues import OPEN
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import EpisodeSource, QualityTable

Batch = dict[str, npt.NDArray[Any]]  # rows [N, M, F], prompt [N, P], caller [N, 4], mask [N, M]


def observation_space(models: int) -> gym.spaces.Dict:
    """rows [M, F], prompt [P], caller [C] in float32 with the bounds of their fields; mask [M] of 0 and 1."""
    return gym.spaces.Dict(
        {
            "rows": _box(MODEL_FIELDS, models),
            "prompt": _box(PROMPT_FIELDS),
            "caller": _box(CALLER_FIELDS),
            "mask": gym.spaces.MultiBinary(models),
        }
    )


def _box(fields: Sequence[Field], repeat: int | None = None) -> gym.spaces.Box:
    low = np.array([field.low for field in fields], dtype=np.float32)
    high = np.array([field.high for field in fields], dtype=np.float32)
    if repeat is not None:
        low, high = np.tile(low, (repeat, 1)), np.tile(high, (repeat, 1))
    return gym.spaces.Box(low, high, dtype=np.float32)


class DispatchVectorEnv(VectorEnv[Batch, npt.NDArray[np.int64], npt.NDArray[Any]]):
    """N simulated pools in lockstep; a step is one decision in each.

    Autoreset is NEXT_STEP: the step after an episode's end resets, its action is ignored and
    `infos["decided"]` [N] is False there. Rewards of a step are those that became known in it, each
    caused by an earlier decision; `simulator.rewards` gives them by decision. `infos["decision"]` [N]
    is the number of the decision just made and `infos["now_s"]` [N] the arrival of the request now observed.
    An episode is truncated, never terminated: the pool would go on.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        models: Sequence[ModelSpec],
        table: QualityTable,
        source: EpisodeSource,
        num_envs: int,
        *,
        seed: int = 0,
        **simulator: Any,
    ) -> None:
        self.num_envs = num_envs
        self.source = source
        self.simulator = QueueSimulator(models, table, num_envs, seed=seed, **simulator)
        self.single_observation_space = observation_space(len(models))
        self.single_action_space = gym.spaces.Discrete(len(models))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rng = np.random.default_rng(seed)
        self._over = np.zeros(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Batch, dict[str, Any]]:
        """A new episode in every pool. `seed` restarts the generator that draws them.

        With `options={"stagger": True}` the first episodes end after random shares of their length, so
        that the pools are not all in the same phase.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed if isinstance(seed, int) else [s or 0 for s in seed])
        for pool in range(self.num_envs):
            self.simulator.load(pool, self.source(self._rng))
            self.simulator.look(pool)
        if options and options.get("stagger"):
            length = self.simulator.stream.length
            length[:] = np.maximum(1, (length * self._rng.random(self.num_envs)).astype(np.int64))
        self._over[:] = False
        return self._observations(), {"now_s": self._now_s()}

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[Batch, npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """One decision in every pool whose episode goes on; the others start a new episode."""
        for pool in np.flatnonzero(self._over):
            self.simulator.load(int(pool), self.source(self._rng))
        decided = ~self._over
        decision = self.simulator.stream.decided.copy()
        self.simulator.step(np.asarray(actions, dtype=np.int64), decided)
        self._over = self.simulator.ended.copy()
        info = {"decided": decided, "decision": decision, "now_s": self._now_s()}
        earned = self.simulator.earned
        return self._observations(), earned, np.zeros(self.num_envs, dtype=np.bool_), self._over.copy(), info

    def _now_s(self) -> npt.NDArray[np.float64]:
        stream = self.simulator.stream
        return stream.arrival_s[np.arange(self.num_envs), stream.cursor]

    def _observations(self) -> Batch:
        observations = self.simulator.observations
        return {
            "rows": observations.rows.copy(), "prompt": observations.prompt.copy(),
            "caller": observations.caller.copy(), "mask": observations.mask.copy(),
        }  # fmt: skip


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
        """Dispatch the observed request, go on to the next."""
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
        observations = self.simulator.observations
        return {
            "rows": observations.rows[0].copy(), "prompt": observations.prompt[0].copy(),
            "caller": observations.caller[0].copy(), "mask": observations.mask[0].copy(),
        }  # fmt: skip
