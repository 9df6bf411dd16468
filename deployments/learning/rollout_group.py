"""Rollout workers as Ray actors: any number, a dead one is replaced, parameters go by the object store."""

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError, WorkerCrashedError

from deployments.logger import get_logger
from policies.simulator.environment import DispatchVectorEnv
from policies.training.env_runner import EnvRunner, Rollout, concatenate
from policies.training.trainer import Parameters, TrainingConfig, new_network

logger = get_logger(__name__)
_SEED_STRIDE = 10_007  # a replacement never repeats its predecessor's stream


class RolloutGroupError(RuntimeError):
    """No worker returned a rollout."""


class RolloutGroup:
    """`workers` EnvRunners on a Ray cluster that is already connected; a Runners for
    policies.training.trainer.

    A round waits `timeout_s` at most. A worker that died or did not answer is replaced, and the round
    goes on with the others' rollouts. The environment factory must be picklable.
    """

    def __init__(
        self,
        make_env: Callable[[int], DispatchVectorEnv],
        config: TrainingConfig,
        workers: int,
        *,
        timeout_s: float = 300.0,
        num_cpus: float = 1.0,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers: {workers}, needs at least 1.")
        self.config = config
        self.timeout_s = timeout_s
        self.replaced = 0
        self._num_cpus = num_cpus
        self._make_env = ray.put(make_env)
        self.actors = [self._start(index) for index in range(workers)]

    def _start(self, index: int) -> Any:
        seed = self.config.seed + index + _SEED_STRIDE * self.replaced
        actor = ray.remote(RolloutWorker).options(num_cpus=self._num_cpus)
        return actor.remote(self._make_env, self.config, seed)

    def sample(self, parameters: Parameters, steps: int) -> Rollout:
        """`steps` steps of every living worker's environments, side by side.

        Where none answered, the replacements are asked once. Raises RolloutGroupError when none of
        them answers either, RayError when a worker's own code fails.
        """
        shared = ray.put(parameters)
        rollouts = self._round(shared, steps) or self._round(shared, steps)
        if not rollouts:
            raise RolloutGroupError(
                f"None of {len(self.actors)} rollout workers answered in {self.timeout_s} s."
            )
        return concatenate(rollouts)

    def _round(self, shared: Any, steps: int) -> list[Rollout]:
        pending = [actor.sample.remote(shared, steps) for actor in self.actors]
        ray.wait(pending, num_returns=len(pending), timeout=self.timeout_s)
        found = [self._collect(index, ref) for index, ref in enumerate(pending)]
        return [rollout for rollout in found if rollout is not None]

    def _collect(self, index: int, ref: Any) -> Rollout | None:
        try:
            rollout: Rollout = ray.get(ref, timeout=0)
        except RayTaskError:
            raise  # the worker's own code is wrong: replacing it would hide that
        except (RayActorError, WorkerCrashedError, GetTimeoutError) as error:
            if getattr(error, "actor_init_failed", False):
                raise
            logger.warning("Rollout worker %d is replaced: %s", index, error)
            ray.kill(self.actors[index])
            self.replaced += 1
            self.actors[index] = self._start(index)
            return None
        return rollout

    def close(self) -> None:
        """End the workers."""
        for actor in self.actors:
            ray.kill(actor)
        self.actors = []


class RolloutWorker:
    """What runs in each actor."""

    def __init__(
        self, make_env: Callable[[int], DispatchVectorEnv], config: TrainingConfig, seed: int
    ) -> None:
        self.runner = EnvRunner(
            make_env, new_network(config), config.beta, config.lag, config.ppo.horizon_s, seed
        )

    def sample(self, parameters: Parameters, steps: int) -> Rollout:
        """Take over the parameters, step."""
        self.runner.set_parameters(parameters)
        return self.runner.sample(steps)
