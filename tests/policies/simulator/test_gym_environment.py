import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from policies.simulator import arrivals
from policies.simulator.arrivals import Trace
from policies.simulator.environment import DispatchEnv
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import Episode, episode_from_trace, synthetic_quality

MODELS = [ModelSpec("fast", step_base_s=0.01, slots=4), ModelSpec("slow", step_base_s=0.03, slots=4)]
TABLE = synthetic_quality(2, 64, seed=0)


def _source(rng: np.random.Generator) -> Episode:
    trace = Trace(arrivals.poisson(3.0, 41, rng), np.full(41, 200.0), np.full(41, 60.0))
    return episode_from_trace(trace, np.arange(64), np.array([1.0, 1.0, 0.2, 5.0]), 0.6, rng)


def _env() -> DispatchEnv:
    return DispatchEnv(MODELS, TABLE, _source)


def test_gymnasium_finds_nothing_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*maximum value is infinity.*")
        check_env(_env(), skip_render_check=True)


def test_each_decision_gets_its_own_reward_once_and_the_sum_is_the_return() -> None:
    env = _env()
    env.reset(seed=1)
    total, credited, steps, over = 0.0, {}, 0, False
    while not over:
        _, reward, terminated, over, info = env.step(np.int64(steps % 2))
        assert not terminated
        total += reward
        for decision, value in info["completed"]:
            assert decision not in credited
            credited[decision] = value
        steps += 1
    assert steps == 40
    assert sorted(credited) == list(range(40))
    assert sum(credited.values()) == pytest.approx(total)


def test_a_reward_comes_later_than_its_decision() -> None:
    env = _env()
    env.reset(seed=1)
    _, reward, _, _, info = env.step(np.int64(1))
    assert reward == 0.0
    assert info["completed"] == []
    assert info["elapsed_s"] > 0.0


def test_the_seed_fixes_the_episode() -> None:
    def rewards(seed: int) -> list[float]:
        env = _env()
        env.reset(seed=seed)
        return [env.step(np.int64(0))[1] for _ in range(40)]

    assert rewards(3) == rewards(3)
    assert rewards(3) != rewards(4)


def test_an_action_outside_the_pool_is_refused() -> None:
    env = _env()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="Action 2 is not a model"):
        env.step(np.int64(2))
