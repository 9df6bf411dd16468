import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from policies.simulator import arrivals
from policies.simulator.arrivals import Trace
from policies.simulator.environment import DispatchEnv, DispatchVectorEnv
from policies.simulator.queues import OPEN
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import Episode, episode_from_trace, synthetic_quality

MODELS = [ModelSpec("fast", step_base_s=0.01, slots=4), ModelSpec("slow", step_base_s=0.03, slots=4)]
TABLE = synthetic_quality(2, 64, seed=0)
LENGTH = 12


def _source(rng: np.random.Generator) -> Episode:
    size = LENGTH + 1
    trace = Trace(arrivals.poisson(3.0, size, rng), np.full(size, 200.0), np.full(size, 60.0))
    return episode_from_trace(trace, np.arange(64), np.array([1.0, 1.0, 0.2, 5.0]), 0.6, rng)


def _env(n: int = 3) -> DispatchVectorEnv:
    return DispatchVectorEnv(MODELS, TABLE, _source, n, seed=5)


def test_autoreset_is_declared_and_reset_steps_are_told_apart() -> None:
    env = _env()
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    env.reset(seed=0)
    decided, truncated = [], []
    for _ in range(2 * (LENGTH + 1)):
        _, _, terminated, over, info = env.step(np.zeros(3, dtype=np.int64))
        assert not terminated.any()
        decided.append(info["decided"].all())
        truncated.append(over.all())
    one = [True] * LENGTH + [False]
    assert decided == one * 2
    assert truncated == ([False] * (LENGTH - 1) + [True, False]) * 2


def test_the_action_of_a_reset_step_changes_nothing() -> None:
    def after(action: int) -> np.ndarray:
        env = _env()
        env.reset(seed=0)
        for _ in range(LENGTH):
            env.step(np.zeros(3, dtype=np.int64))
        observation, reward, _, _, _ = env.step(np.full(3, action))
        assert reward.tolist() == [0.0, 0.0, 0.0]
        return observation["rows"]

    assert np.array_equal(after(0), after(1))


def test_all_rewards_are_known_when_an_episode_ends() -> None:
    env = _env()
    env.reset(seed=0)
    earned = np.zeros(3)
    for step in range(LENGTH):
        _, reward, _, _, info = env.step(np.full(3, step % 2))
        earned += reward
        assert info["decision"].tolist() == [step] * 3
    for pool in range(3):
        requests = env.simulator.requests(pool, 0, LENGTH)
        assert not (requests["outcome"] == OPEN).any()
        assert requests["reward"].sum() == pytest.approx(earned[pool])


def test_observations_lie_in_their_space_and_are_copies() -> None:
    env = _env()
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert info["now_s"].tolist() == [0.0, 0.0, 0.0]
    before = observation["rows"].copy()
    later, *_ = env.step(np.zeros(3, dtype=np.int64))
    assert env.observation_space.contains(later)
    assert np.array_equal(before, observation["rows"])
    assert not np.array_equal(before, later["rows"])


def test_pools_draw_different_episodes_and_the_seed_fixes_them() -> None:
    def arrivals_of(seed: int) -> np.ndarray:
        env = _env()
        env.reset(seed=seed)
        return env.simulator.stream.arrival_s.copy()

    assert np.array_equal(arrivals_of(1), arrivals_of(1))
    assert not np.array_equal(arrivals_of(1), arrivals_of(2))
    assert not np.array_equal(arrivals_of(1)[0], arrivals_of(1)[1])


def test_staggered_pools_end_their_first_episodes_at_different_times() -> None:
    env = _env(n=8)
    env.reset(seed=0, options={"stagger": True})
    ends = np.zeros(8)
    for step in range(LENGTH):
        *_, over, _ = env.step(np.zeros(8, dtype=np.int64))
        ends = np.where(over & (ends == 0), step + 1, ends)
    assert len(set(ends.tolist())) > 3
    assert ends.max() <= LENGTH


def _source_of_40(rng: np.random.Generator) -> Episode:
    trace = Trace(arrivals.poisson(3.0, 41, rng), np.full(41, 200.0), np.full(41, 60.0))
    return episode_from_trace(trace, np.arange(64), np.array([1.0, 1.0, 0.2, 5.0]), 0.6, rng)


def _single() -> DispatchEnv:
    return DispatchEnv(MODELS, TABLE, _source_of_40)


def test_gymnasium_finds_nothing_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*maximum value is infinity.*")
        check_env(_single(), skip_render_check=True)


def test_each_decision_gets_its_own_reward_once_and_the_sum_is_the_return() -> None:
    env = _single()
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
    env = _single()
    env.reset(seed=1)
    _, reward, _, _, info = env.step(np.int64(1))
    assert reward == 0.0
    assert info["completed"] == []
    assert info["elapsed_s"] > 0.0


def test_the_seed_fixes_the_episode() -> None:
    def rewards(seed: int) -> list[float]:
        env = _single()
        env.reset(seed=seed)
        return [env.step(np.int64(0))[1] for _ in range(40)]

    assert rewards(3) == rewards(3)
    assert rewards(3) != rewards(4)


def test_an_action_outside_the_pool_is_refused() -> None:
    env = _single()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="Action 2 is not a model"):
        env.step(np.int64(2))
