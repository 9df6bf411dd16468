"""Artifacts as they are published: real ones load, and no bytes whatever stop an ingress."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.dispatch.policy_host import ArtifactLoaders, PolicyHost
from deployments.dispatch.settings import DispatchSettings
from policies.learned.checkpoint import new_manifest
from policies.learned.policy import LearnedPolicy
from policies.policy import FormulaPolicy
from policies.prompt.features import extract
from policies.quality.data import QualityData, ScoredAnswer
from policies.quality.model import QualityModel
from policies.quality.training import QualitySettings, fit
from policies.training.network import DispatchNetwork
from policies.utility import DEFAULT_BETA
from tests.policies.examples import observe

SEEN = observe([0.9, 0.8, 0.3], [1.0, 0.4, 0.2], mask=[True, True, False])


@pytest.fixture(scope="module")
def quality() -> QualityModel:
    answers = [ScoredAnswer(str(i), extract(f"prompt {i}"), m, i % 2) for i in range(8) for m in ("a", "b")]
    return fit(QualityData.from_answers(answers), QualitySettings(epochs=1))


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    network = DispatchNetwork(hidden=8)
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return LearnedPolicy(tensors, new_manifest(tensors, DEFAULT_BETA, 8, {})).to_bytes()


def host() -> PolicyHost:
    return PolicyHost(DispatchSettings(), ArtifactLoaders())


def test_an_untrained_policy_is_exactly_the_formula(checkpoint: bytes) -> None:
    kept = host()
    assert kept.install("policy:3", "r", checkpoint)
    probabilities, decider = kept.choose(SEEN, 3, 0.0)
    assert str(decider) == "learned@3"
    assert np.allclose(probabilities, FormulaPolicy().probabilities(SEEN), atol=1e-12)


def test_a_quality_model_keeps_its_revision_and_does_not_know_strangers(quality: QualityModel) -> None:
    kept = host()
    assert kept.install("quality", quality.revision, quality.to_bytes())
    assert kept.quality is not None
    assert kept.quality.revision == quality.revision
    predicted = kept.predicted_quality(extract("prompt 1"), ("a", "stranger"))
    assert predicted is not None
    assert np.isnan(predicted[0]).tolist() == [False, True]


def test_a_damaged_checkpoint_is_refused(checkpoint: bytes) -> None:
    for damaged in (checkpoint[:-1], checkpoint[:100], checkpoint[:-4] + b"\x00\x00\xc0\x7f", b""):
        kept = host()
        assert not kept.install("policy:1", "r", damaged)
        assert str(kept.choose(SEEN, 1, 0.0)[1]) == "formula;fallback=missing"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["quality", "latency", "policy:1"]), st.binary(max_size=64))
def test_no_bytes_stop_the_host(name: str, data: bytes) -> None:
    kept = host()
    assert not kept.install(name, "r", data)
    assert kept.fallbacks["artifact"] == 1
    assert str(kept.choose(SEEN, None, 0.0)[1]) == "formula"
