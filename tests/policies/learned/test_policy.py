import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from policies.learned import policy
from policies.learned.checkpoint import CheckpointError, new_manifest
from policies.learned.features import network_inputs
from policies.learned.policy import LearnedPolicy
from policies.policy import FormulaPolicy
from policies.priced import PricedPolicy
from policies.training import network
from policies.training.network import DispatchNetwork
from policies.training.trainer import parameters_of
from tests.policies import decided


def _policy(net: DispatchNetwork, beta: float = 20.0) -> LearnedPolicy:
    tensors = {name: value for name, value in parameters_of(net).items() if not name.startswith("value.")}
    return LearnedPolicy(tensors, new_manifest(tensors, beta, net.hidden, {"decisions": 0.0}))


def _random_network(seed: int) -> DispatchNetwork:
    net = DispatchNetwork(16, drop=("kv_use",), seed=seed)
    torch.manual_seed(seed)
    for parameter in (net.policy.score.weight, net.policy.score.bias, net.policy.skip.weight):
        torch.nn.init.normal_(parameter, std=0.3)
    return net


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), models=st.integers(1, 9))
def test_untrained_is_exactly_the_priced_rule(seed: int, models: int) -> None:
    observation = decided.observation(seed, models)
    learned = _policy(DispatchNetwork(16)).distribution(observation)
    assert learned == pytest.approx(PricedPolicy(20.0).distribution(observation), abs=1e-12)


def test_a_policy_of_before_the_priced_rule_stands_on_the_formula() -> None:
    made, observation = _policy(DispatchNetwork(16)), decided.observation(3, 5)
    content = asdict(made.manifest)
    del content["base"]
    old = LearnedPolicy.from_bytes(save(dict(made._tensors), {"manifest": json.dumps(content)}))
    expected = FormulaPolicy(20.0).distribution(observation)
    assert old.distribution(observation) == pytest.approx(expected, abs=1e-12)


def test_a_base_that_does_not_exist_is_refused() -> None:
    made = _policy(DispatchNetwork(16))
    odd = save(dict(made._tensors), {"manifest": json.dumps(asdict(made.manifest) | {"base": "luck"})})
    with pytest.raises(CheckpointError, match="stands on 'luck'"):
        LearnedPolicy.from_bytes(odd)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), models=st.integers(1, 9))
def test_numpy_and_torch_agree(seed: int, models: int) -> None:
    observation = decided.observation(seed, models)
    net = _random_network(seed % 5)
    x, _ = network_inputs(observation.rows, observation.prompt, observation.caller, observation.mask)
    with torch.no_grad():
        expected = net.residual(torch.from_numpy(x), torch.from_numpy(observation.mask)).numpy()
    found = _policy(net).residual(x, observation.mask)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-3)
    assert policy.RESIDUAL_SCALE == network.RESIDUAL_SCALE


def test_bytes_give_the_same_policy_back() -> None:
    policy = _policy(_random_network(1))
    again = LearnedPolicy.from_bytes(policy.to_bytes())
    observation = decided.observation(3, 5)
    assert np.array_equal(policy.distribution(observation), again.distribution(observation))
    assert again.revision == policy.revision
    assert _policy(_random_network(2)).revision != policy.revision


def test_a_checkpoint_without_a_tensor_is_refused() -> None:
    policy = _policy(_random_network(1))
    tensors = {name: value for name, value in policy._tensors.items() if name != "policy.own.bias"}
    with pytest.raises(CheckpointError, match=r"lacks tensor 'own\.bias'"):
        LearnedPolicy(tensors, policy.manifest)
