from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.learned.features import FEATURES
from policies.observation import MODEL_COLUMN, Observation
from policies.priced import PricedPolicy
from policies.simulator import arrivals
from policies.simulator.arrivals import Trace
from policies.simulator.environment import DispatchVectorEnv
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import Episode, episode_from_trace, synthetic_quality
from policies.training.ppo import PPOConfig
from policies.training.trainer import (
    LocalRunners,
    Trainer,
    TrainingConfig,
    new_network,
    parameters_of,
)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")

CONFIG = TrainingConfig(decisions=1024, steps=32, lag=8, hidden=8, ppo=PPOConfig(minibatch=128))


def _draw(rng: np.random.Generator) -> Episode:
    trace = Trace(arrivals.poisson(3.0, 65, rng), np.full(65, 200.0), np.full(65, 60.0))
    return episode_from_trace(trace, np.arange(64), np.array([1.0, 1.0, 0.2, 5.0]), 0.6, rng)


def _make_env(seed: int) -> DispatchVectorEnv:
    models = [ModelSpec("fast", step_base_s=0.01, slots=4), ModelSpec("slow", step_base_s=0.03, slots=4)]
    return DispatchVectorEnv(models, synthetic_quality(2, 64, seed=0), _draw, 8, seed=seed)


def _trainer(config: TrainingConfig = CONFIG, device: str = "cpu") -> Trainer:
    return Trainer(config, LocalRunners(_make_env, config), device)


def test_the_seed_fixes_the_policy() -> None:
    assert _trainer().run().revision == _trainer().run().revision
    assert _trainer().run().revision != _trainer(replace(CONFIG, seed=1)).run().revision


def test_every_update_is_reported_with_finite_numbers() -> None:
    rows = []
    policy = _trainer().run(lambda decisions, metrics: rows.append((decisions, metrics)))
    assert [decisions for decisions, _ in rows] == sorted({decisions for decisions, _ in rows})
    assert rows[-1][0] >= 1024
    for _, metrics in rows:
        assert all(np.isfinite(value) for value in metrics.values())
    assert policy.manifest.data_range["decisions"] == rows[-1][0]
    assert "reward" in rows[-1][1]


def test_inputs_that_did_not_vary_in_training_move_nothing_but_the_priced_rule() -> None:
    environment = _make_env(3)
    environment.reset(seed=3)
    policy, rule = _trainer().run(), PricedPolicy(CONFIG.beta * CONFIG.sharpness)
    seen = environment.simulator.observation(0)
    residual = policy.logits(seen) - rule.logits(seen)
    for name, values in {"age_s": (0.0, 5.0), "error_rate": (0.6, 0.0), "replicas": (1.0, 7.0)}.items():
        rows = seen.rows.copy()
        rows[:, MODEL_COLUMN[name]] = values
        moved = Observation(seen.models, rows, seen.prompt, seen.caller, seen.mask)
        np.testing.assert_allclose(policy.logits(moved) - rule.logits(moved), residual, atol=1e-4)


def test_the_served_policy_is_the_trained_one_sharpened() -> None:
    plain, sharp = (_trainer(replace(CONFIG, sharpness=sharpness)) for sharpness in (1.0, 4.0))
    one, other = plain.run(), sharp.run()
    x = np.random.default_rng(0).random((2, len(FEATURES))).astype(np.float32)
    mask = np.ones(2, dtype=np.bool_)
    assert other.residual(x, mask) == pytest.approx(4.0 * one.residual(x, mask), rel=1e-4, abs=1e-4)
    assert other.beta == 4.0 * one.beta


def test_training_goes_on_from_its_state(tmp_path: Path) -> None:
    first = _trainer(replace(CONFIG, decisions=512))
    first.run()
    first.save(tmp_path / "state.safetensors")
    second = _trainer()
    second.resume(tmp_path / "state.safetensors")
    assert second.decisions == first.decisions
    assert second.ppo.updates == first.ppo.updates
    for name, value in parameters_of(first.network).items():
        assert np.array_equal(value, parameters_of(second.network)[name])
    moments = first.ppo.optimizer.state_dict()["state"][0]["exp_avg"]
    assert np.array_equal(moments, second.ppo.optimizer.state_dict()["state"][0]["exp_avg"])
    second.run()
    assert second.decisions >= 1024


def test_the_state_of_another_network_is_refused(tmp_path: Path) -> None:
    _trainer().save(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match="belongs to another network"):
        _trainer(replace(CONFIG, hidden=16)).resume(tmp_path / "state.safetensors")


@needs_gpu
def test_an_update_on_a_gpu_leaves_the_weights_that_one_on_the_cpu_leaves() -> None:
    rollout = LocalRunners(_make_env, CONFIG).sample(parameters_of(new_network(CONFIG)), CONFIG.steps)
    trainers = [_trainer(device=device) for device in ("cpu", "cuda")]
    for trainer in trainers:
        trainer.ppo.update(rollout)
    on_cpu, on_gpu = (parameters_of(trainer.network) for trainer in trainers)
    for name, value in on_cpu.items():
        assert on_gpu[name] == pytest.approx(value, abs=2e-3), name


@needs_gpu
def test_a_training_moves_from_gpu_to_cpu_and_back(tmp_path: Path) -> None:
    first = _trainer(replace(CONFIG, decisions=512), "cuda")
    first.run()
    first.save(tmp_path / "state.safetensors")
    for device in ("cpu", "cuda"):
        second = _trainer(device=device)
        second.resume(tmp_path / "state.safetensors")
        for name, value in parameters_of(first.network).items():
            assert np.array_equal(value, parameters_of(second.network)[name])
        assert second.run().manifest.data_range["decisions"] >= 1024
