import logging
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import ray

from deployments.learning.rollout_group import RolloutGroup, RolloutGroupError
from policies.simulator import arrivals
from policies.simulator.arrivals import Trace
from policies.simulator.environment import DispatchVectorEnv
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import Episode, episode_from_trace, synthetic_quality
from policies.training.ppo import PPOConfig
from policies.training.trainer import LocalRunners, Trainer, TrainingConfig, new_network, parameters_of

pytestmark = pytest.mark.integration

CONFIG = TrainingConfig(decisions=512, steps=16, lag=8, hidden=8, ppo=PPOConfig(minibatch=64))


def draw(rng: np.random.Generator) -> Episode:
    trace = Trace(arrivals.poisson(3.0, 65, rng), np.full(65, 200.0), np.full(65, 60.0))
    return episode_from_trace(trace, np.arange(64), np.array([1.0, 1.0, 0.2, 5.0]), 0.6, rng)


def make_env(seed: int, broken: bool = False) -> DispatchVectorEnv:
    if broken:
        raise ValueError("no such pool")
    models = [ModelSpec("fast", step_base_s=0.01, slots=4), ModelSpec("slow", step_base_s=0.03, slots=4)]
    return DispatchVectorEnv(models, synthetic_quality(2, 64, seed=0), draw, 4, seed=seed)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False)
    yield
    ray.shutdown()


def test_two_workers_give_the_rollouts_of_two_runners() -> None:
    group = RolloutGroup(make_env, CONFIG, workers=2, num_cpus=0.1)
    weights = parameters_of(new_network(CONFIG))
    rollout = group.sample(weights, 16)
    group.close()
    assert rollout.reward.shape == (16, 8)
    for worker in range(2):
        local = LocalRunners(make_env, TrainingConfig(steps=16, lag=8, hidden=8, seed=worker)).sample(
            weights, 16
        )
        assert np.array_equal(rollout.action[:, 4 * worker : 4 * worker + 4], local.action)


def test_a_killed_worker_is_replaced_and_the_round_goes_on() -> None:
    group = RolloutGroup(make_env, CONFIG, workers=2, num_cpus=0.1)
    weights = parameters_of(new_network(CONFIG))
    group.sample(weights, 16)
    ray.kill(group.actors[0])
    assert group.sample(weights, 16).reward.shape == (16, 4)
    assert group.replaced == 1
    assert group.sample(weights, 16).reward.shape == (16, 8)
    group.close()


def test_a_round_without_any_answer_is_asked_of_the_replacements() -> None:
    group = RolloutGroup(make_env, CONFIG, workers=1, num_cpus=0.1)
    weights = parameters_of(new_network(CONFIG))
    ray.kill(group.actors[0])
    assert group.sample(weights, 16).reward.shape == (16, 4)
    assert group.replaced == 1
    group.close()


def test_silence_beyond_the_limit_is_an_error() -> None:
    group = RolloutGroup(make_env, CONFIG, workers=1, timeout_s=0.01, num_cpus=0.1)
    with pytest.raises(RolloutGroupError, match="None of 1"):
        group.sample(parameters_of(new_network(CONFIG)), 4096)
    group.close()


def test_training_runs_on_workers() -> None:
    group = RolloutGroup(make_env, CONFIG, workers=2, num_cpus=0.1)
    seen: list[int] = []
    policy = Trainer(CONFIG, group).run(lambda decisions, metrics: seen.append(decisions))
    group.close()
    assert seen[-1] >= 512
    assert len(policy.revision) == 12


def test_an_error_in_the_environment_is_raised_not_retried() -> None:
    group = RolloutGroup(partial(make_env, broken=True), CONFIG, workers=1, num_cpus=0.1)
    with pytest.raises(ray.exceptions.RayError, match="no such pool"):
        group.sample(parameters_of(new_network(CONFIG)), 16)
