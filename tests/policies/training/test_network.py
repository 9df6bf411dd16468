import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.learned.features import FEATURES, network_inputs
from policies.observation import MODEL_FIELDS, PROMPT_FIELDS, Observation
from policies.priced import priced_utility
from policies.training.network import DispatchNetwork


def observation(seed: int, models: int, masked: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    rows = rng.random((models, len(MODEL_FIELDS))) * np.array(
        [1, 1, 0.2, 5, 20, 0.1, 0.01, 40, 20, 32, 1, 0.2, 3, 1, 1]
    )
    prompt = rng.random(len(PROMPT_FIELDS)) * np.array([2000, 500, 5, 1, 1, 1, 1, 1])
    mask = np.ones(models, dtype=bool)
    mask[:masked] = False
    return Observation(
        tuple(f"m{i}" for i in range(models)),
        rows,
        prompt,
        np.array([2.0, 1.0, 0.5, rng.choice([0.0, 7.0])]),
        mask,
    )


def inputs(one: Observation) -> tuple[np.ndarray, np.ndarray]:
    return network_inputs(one.rows, one.prompt, one.caller, one.mask)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), models=st.integers(1, 9), masked=st.integers(0, 8))
def test_features_are_finite_and_the_utility_is_the_priced_one(seed: int, models: int, masked: int) -> None:
    one = observation(seed, models, min(masked, models - 1))
    x, utility = inputs(one)
    assert x.shape == (models, len(FEATURES))
    assert np.isfinite(x).all()
    expected = priced_utility(one.rows, one.prompt, one.caller, one.mask)
    assert utility[one.mask] == pytest.approx(expected[one.mask])


def test_a_batch_gives_what_each_request_gives_alone() -> None:
    many = [observation(seed, 4, masked=seed % 2) for seed in range(6)]
    batch, utility = network_inputs(
        np.stack([one.rows for one in many]),
        np.stack([one.prompt for one in many]),
        np.stack([one.caller for one in many]),
        np.stack([one.mask for one in many]),
    )
    for i, one in enumerate(many):
        x, alone = inputs(one)
        assert np.array_equal(batch[i], x)
        assert utility[i] == pytest.approx(alone)


def test_g_is_zero_at_the_start() -> None:
    x, _ = inputs(observation(0, 5))
    network = DispatchNetwork(16)
    assert torch.equal(network.residual(torch.from_numpy(x), torch.ones(5, dtype=torch.bool)), torch.zeros(5))


def _trained(seed: int = 0) -> DispatchNetwork:
    network = DispatchNetwork(16, seed=seed)
    torch.manual_seed(seed)
    for parameter in (network.policy.score.weight, network.policy.score.bias, network.policy.skip.weight):
        torch.nn.init.normal_(parameter, std=0.3)
    return network


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), models=st.integers(2, 8))
def test_the_order_of_models_does_not_matter(seed: int, models: int) -> None:
    one = observation(seed, models, masked=1)
    order = np.random.default_rng(seed).permutation(models)
    moved = Observation(
        tuple(one.models[i] for i in order), one.rows[order], one.prompt, one.caller, one.mask[order]
    )
    network = _trained()
    with torch.no_grad():
        g = network.residual(*(torch.from_numpy(a) for a in (inputs(one)[0], one.mask))).numpy()
        h = network.residual(*(torch.from_numpy(a) for a in (inputs(moved)[0], moved.mask))).numpy()
    assert h == pytest.approx(g[order], abs=1e-3)


def test_features_can_be_switched_off_by_name() -> None:
    network = DispatchNetwork(8, drop=("load", "target"))
    off = [name for name, kept in zip(FEATURES, network.keep.tolist(), strict=True) if not kept]
    assert off == ["load", "target"]
    with pytest.raises(ValueError, match="Feature 'speeed' does not exist"):
        DispatchNetwork(8, drop=("speeed",))
