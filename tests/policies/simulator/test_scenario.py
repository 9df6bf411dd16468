from dataclasses import replace

import numpy as np
import pytest

from policies.simulator.arrivals import synthetic_trace
from policies.simulator.scenario import STANDARD, ScenarioMix, pool_capacity_per_s
from policies.simulator.spec import ModelSpec, capacity_per_s

CALLER = np.array([1.0, 1.0, 0.2, 10.0])


@pytest.mark.parametrize("scenario", STANDARD, ids=lambda scenario: scenario.name)
def test_every_scenario_has_its_mean_load(scenario) -> None:
    trace = synthetic_trace(6000, 0)
    episode = scenario.episode(trace, 20.0, np.arange(10), CALLER, 0.6, np.random.default_rng(0))
    rate = (len(trace) - 1) / (episode.arrival_s[-1] - episode.arrival_s[0])
    assert rate == pytest.approx(20.0 * scenario.load, rel=0.15)
    assert np.array_equal(episode.prompt_tokens, trace.prompt_tokens)
    assert set(episode.row.tolist()) <= set(range(10))


def test_capacity_is_the_sum_over_models() -> None:
    models = [ModelSpec("a"), ModelSpec("b", step_base_s=0.05)]
    trace = synthetic_trace(1000, 0)
    lengths = float(trace.prompt_tokens.mean()), float(trace.output_tokens.mean())
    assert pool_capacity_per_s(models, trace) == pytest.approx(
        sum(capacity_per_s(m, *lengths) for m in models)
    )


def test_the_mix_draws_different_episodes_of_one_length_by_seed() -> None:
    mix = ScenarioMix(synthetic_trace(3000, 0), 20.0, np.arange(10), CALLER, length=500)
    one, same, other = (mix(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.arrival_s.shape == (501,)
    assert np.array_equal(one.arrival_s, same.arrival_s)
    assert not np.array_equal(one.arrival_s, other.arrival_s)
    callers = np.array([mix(np.random.default_rng(seed)).caller for seed in range(200)])
    usual = (callers == CALLER).all(axis=1).mean()
    assert 0.4 < usual < 0.6
    assert callers[:, 0].min() >= 0.1


def test_a_trace_shorter_than_an_episode_is_refused() -> None:
    mix = ScenarioMix(synthetic_trace(100, 0), 20.0, np.arange(10), CALLER, length=500)
    with pytest.raises(ValueError, match="holds 100 requests, an episode needs 501"):
        mix(np.random.default_rng(0))
    assert replace(mix, length=99)(np.random.default_rng(0)).arrival_s.shape == (100,)
