from collections.abc import Callable

import numpy as np
import pytest

from policies.arrays import F32
from policies.learned.features import FEATURES
from policies.simulator import arrivals
from policies.simulator.arrivals import Trace
from policies.simulator.environment import DispatchVectorEnv
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import Episode, episode_from_trace, synthetic_quality
from policies.training.env_runner import EnvRunner, concatenate
from policies.training.network import DispatchNetwork
from policies.training.trainer import parameters_of

MODELS = [ModelSpec("fast", step_base_s=0.01, slots=4), ModelSpec("slow", step_base_s=0.03, slots=4)]
TABLE = synthetic_quality(2, 64, seed=0)


def _source(rng: np.random.Generator) -> Episode:
    trace = Trace(arrivals.poisson(3.0, 31, rng), np.full(31, 200.0), np.full(31, 60.0))
    return episode_from_trace(trace, np.arange(64), np.array([1.0, 1.0, 0.2, 5.0]), 0.6, rng)


def _make_env(seed: int) -> DispatchVectorEnv:
    return DispatchVectorEnv(MODELS, TABLE, _source, 4, seed=seed)


def _runner(lag: int = 16, seed: int = 0, horizon_s: float = 20.0) -> EnvRunner:
    return EnvRunner(_make_env, DispatchNetwork(8), 20.0, lag, horizon_s, seed)


def test_rollouts_have_the_stated_shapes_and_join_without_a_gap() -> None:
    runner = _runner()
    first, second = runner.sample(20), runner.sample(20)
    assert first.features.shape == (21, 4, 2, len(FEATURES))
    assert first.mask.shape == first.base.shape == (21, 4, 2)
    assert first.action.shape == first.reward.shape == first.ended.shape == (20, 4)
    assert np.array_equal(first.features[-1], second.features[0])


def test_rewards_are_credited_to_the_decision_that_earned_them() -> None:
    rollout = (runner := _runner(lag=31)).sample(31)  # no request stays open for a whole episode
    assert rollout.censored == 0.0
    for pool in range(4):
        count = int(rollout.decided[:, pool].sum())
        requests = runner.env.simulator.requests(pool, 0, count)
        decided = rollout.decided[:, pool]
        assert rollout.reward[decided, pool] == pytest.approx(requests["reward"], abs=1e-6)
        assert rollout.action[decided, pool].tolist() == requests["model"].tolist()


def _crowded(rng: np.random.Generator) -> Episode:
    trace = Trace(arrivals.poisson(12.0, 31, rng), np.full(31, 200.0), np.full(31, 60.0))
    return episode_from_trace(trace, np.arange(64), np.array([1.0, 1.0, 0.2, 1.0]), 0.6, rng)


def test_decisions_are_charged_for_the_delays_of_others_only_where_the_future_counts() -> None:
    def cost(source: Callable[[np.random.Generator], Episode], horizon_s: float) -> F32:
        runner = EnvRunner(
            lambda seed: DispatchVectorEnv(MODELS, TABLE, source, 4, seed=seed),
            DispatchNetwork(8), 20.0, lag=31, horizon_s=horizon_s, seed=0,
        )  # fmt: skip
        return runner.sample(31).delay_cost

    crowded = cost(_crowded, 20.0)
    assert crowded.min() >= 0.0
    assert crowded.mean() > cost(_crowded, 0.5).mean() > 0.0
    assert cost(_crowded, 0.0).max() == 0.0
    assert cost(_source, 20.0).mean() < 0.1 * crowded.mean()


def test_a_longer_lag_leaves_fewer_rewards_unknown() -> None:
    assert _runner(lag=0).sample(10).censored > _runner(lag=4).sample(10).censored
    assert _runner(lag=31).sample(10).censored == 0.0


def test_reset_steps_are_masked_and_episodes_marked() -> None:
    rollout = _runner().sample(62)
    assert rollout.ended.any(axis=0).all()
    assert np.array_equal(rollout.decided[1:], ~rollout.ended[:-1])
    assert rollout.decisions == rollout.decided.sum() < 62 * 4


def test_the_seed_fixes_a_rollout_and_weights_are_taken_over() -> None:
    one, other = _runner(seed=3).sample(10), _runner(seed=3).sample(10)
    assert np.array_equal(one.action, other.action)
    assert np.array_equal(one.reward, other.reward)
    runner = _runner()
    trained = DispatchNetwork(8, seed=9)
    runner.set_parameters(parameters_of(trained))
    for name, value in parameters_of(runner.network).items():
        assert np.array_equal(value, parameters_of(trained)[name])


def test_rollouts_are_joined_as_more_environments() -> None:
    joined = concatenate([_runner(seed=1).sample(8), _runner(seed=2).sample(8)])
    assert joined.reward.shape == (8, 8)
    assert joined.features.shape[:2] == (9, 8)


def test_time_never_runs_backwards_at_a_reset() -> None:
    assert _runner().sample(62).elapsed_s.min() >= 0.0
