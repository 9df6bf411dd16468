"""Versions in use: assignment, hot swap, and the formula that steps in for whatever a policy does."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.dispatch.policy_host import ArtifactLoaders, PolicyHost
from deployments.dispatch.settings import DispatchSettings
from policies.arrays import F64
from policies.latency.model import LatencyModel, LatencyParameters
from policies.learned.checkpoint import new_manifest
from policies.learned.policy import LearnedPolicy
from policies.observation import Observation
from policies.policy import Policy
from policies.priced import PricedPolicy
from policies.promotion.rollout import Candidate, RolloutState, Stage, Step
from policies.prompt.features import extract
from policies.quality.data import QualityData, ScoredAnswer
from policies.quality.model import QualityModel
from policies.quality.training import QualitySettings, fit
from policies.training.network import DispatchNetwork
from policies.utility import DEFAULT_BETA
from tests.clock import Clock
from tests.deployments.dispatch.dispatchers import Made, MadeLoaders
from tests.deployments.pools import snapshot
from tests.policies.examples import observe

SEEN = observe([0.9, 0.8, 0.7], [1.0, 2.0, 3.0], mask=[True, True, False])


class Reckless(Made):
    """Overrides what the base class makes safe."""

    def probabilities(self, observation: Observation, epsilon: float = 0.0) -> F64:
        return self.distribution(observation)


def host(clock: Clock | None = None) -> PolicyHost:
    return PolicyHost(DispatchSettings(), MadeLoaders(), clock or time.perf_counter)


def test_without_a_version_the_priced_rule_decides() -> None:
    probabilities, decider = host().choose(SEEN, None, 0.05)
    assert str(decider) == "priced"
    assert np.array_equal(probabilities, host().rule.probabilities(SEEN, 0.05))


def test_the_formula_steps_in_where_a_row_holds_no_number() -> None:
    kept = host()
    broken = observe([0.9, 0.8, 0.3], [1.0, 0.4, 0.2], ttft_s=[np.nan, 0.1, 0.1])
    probabilities, decider = kept.choose(broken, None, 0.0)
    assert str(decider) == "formula;fallback=nonfinite"
    assert probabilities.sum() == pytest.approx(1.0)
    assert kept.fallbacks["nonfinite"] == 1


def test_an_active_version_decides() -> None:
    kept = host()
    kept.hold(1, Made())
    probabilities, decider = kept.choose(SEEN, 1, 0.0)
    assert str(decider) == "learned@1"
    assert probabilities.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("policy", "policy_string"),
    [
        (Made(error=RuntimeError("boom")), "formula;fallback=error"),
        (Made(error=KeyError("x")), "formula;fallback=error"),
        (Made((0.5, 0.5)), "formula;fallback=nonfinite"),
        (Made((float("nan"), 1.0, 0.0)), "formula;fallback=nonfinite"),
        (Made((0.0, 0.0, 1.0)), "formula;fallback=nonfinite"),
        (Reckless((0.0, 0.0, 1.0)), "formula;fallback=nonfinite"),
        (Reckless((2.0, 1.0, 0.0)), "formula;fallback=nonfinite"),
        (Reckless((1.0,)), "formula;fallback=nonfinite"),
        (Reckless("words"), "formula;fallback=nonfinite"),
        (Made(sleep_s=0.06), "formula;fallback=breaker"),
    ],
)
def test_the_formula_steps_in_and_says_so(policy: Policy, policy_string: str) -> None:
    kept = host()
    kept.hold(1, policy)
    probabilities, decider = kept.choose(SEEN, 1, 0.05)
    assert str(decider) == policy_string
    assert np.array_equal(probabilities, kept.formula.probabilities(SEEN, 0.05))
    assert kept.fallbacks == Counter({policy_string.partition("=")[2]: 1})


def test_a_version_that_is_not_here_yet_is_replaced_by_the_formula() -> None:
    assert str(host().choose(SEEN, 7, 0.0)[1]) == "formula;fallback=missing"


def test_a_slow_policy_is_not_asked_again_until_it_has_cooled_down() -> None:
    clock = Clock()
    kept = host(clock)

    class Slow(Made):
        asked = 0

        def distribution(self, observation: Observation) -> F64:
            Slow.asked += 1
            clock.now_s += 0.2 if Slow.asked == 1 else 0.0
            return np.array([0.0, 1.0, 0.0])

    kept.hold(1, Slow())
    assert str(kept.choose(SEEN, 1, 0.0)[1]) == "formula;fallback=breaker"
    assert str(kept.choose(SEEN, 1, 0.0)[1]) == "formula;fallback=breaker"
    assert Slow.asked == 1
    clock.now_s += 31.0
    assert str(kept.choose(SEEN, 1, 0.0)[1]) == "learned@1"


numbers = st.floats(allow_nan=True, allow_infinity=True)
answers = st.one_of(
    st.lists(numbers, max_size=5),
    st.text(max_size=3),
    st.none(),
    st.lists(st.lists(numbers, max_size=3), max_size=3),
)
errors = st.sampled_from([None, ValueError("v"), ZeroDivisionError("z"), RecursionError("r"), MemoryError()])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([Made, Reckless]), answers, errors)
def test_whatever_a_policy_gives_the_choice_can_be_sampled(
    kind: type[Made], answer: object, error: Exception | None
) -> None:
    kept = host()
    kept.hold(1, kind(answer, error))
    probabilities, _ = kept.choose(SEEN, 1, 0.05)
    assert abs(float(probabilities.sum()) - 1.0) < 1e-6
    assert (probabilities >= 0.0).all()
    assert probabilities[2] == 0.0


def test_the_canary_gets_its_share_of_slices_and_in_them_every_request() -> None:
    candidate = Candidate(2, Stage.CANARY, slice_s=10.0, steps=(Step(0.0, 0.25),))
    state = RolloutState(active=1, candidate=candidate, yardstick_share=0.0)
    kept = host()
    drawn = [{kept.assigned(state, f"d{i}", 10.0 * number + i) for i in range(10)} for number in range(400)]
    assert all(len(versions) == 1 for versions in drawn)
    assert sum(versions == {2} for versions in drawn) == 100


def test_the_version_before_gets_whole_slices_of_the_active_ones_time() -> None:
    state = RolloutState(active=2, previous=1, seed=3, slice_s=10.0, yardstick_share=0.05)
    kept, start_s = host(), state.yardstick.steps[0].began_s  # type: ignore[union-attr]
    early = {kept.assigned(state, f"d{i}", 10.0 * i) for i in range(int(start_s / 10.0) - 1)}
    assert early == {1, 2}, "a share of requests from the beginning"
    drawn = [
        {kept.assigned(state, f"d{i}", start_s + 10.0 * number + i % 10) for i in range(200)}
        for number in range(200)
    ]
    assert sum(versions == {1} for versions in drawn) == 10


def test_no_active_version_means_the_priced_rule() -> None:
    assert host().assigned(RolloutState(), "d", 0.0) is None


def test_a_shadow_is_asked_and_never_used() -> None:
    state = RolloutState(candidate=Candidate(2, Stage.SHADOW, share=1.0))
    kept = host()
    kept.hold(2, Made((0.0, 1.0, 0.0)))
    assert kept.assigned(state, "d", 0.0) is None
    assert kept.shadow(state, SEEN, 0.0, seed=1) == "2:b"
    kept.hold(2, Made(error=RuntimeError("boom")))
    assert kept.shadow(state, SEEN, 0.0, seed=1) == ""
    assert kept.fallbacks["shadow"] == 1


def test_only_what_is_used_and_new_is_wanted() -> None:
    kept = host()
    shown = snapshot(
        artifacts={"quality": "q1", "policy:1": "p1", "policy:2": "p2", "policy:3": "p3", "other": "x"},
        rollout=RolloutState(active=1, candidate=Candidate(3, Stage.SHADOW, share=0.1)),
    )
    assert sorted(kept.wanted(shown)) == ["policy:1", "policy:3", "quality"]
    assert kept.install("policy:1", "p1", b"good")
    assert kept.install("quality", "q1", b"good")
    assert kept.wanted(shown) == ["policy:3"]


async def test_refresh_fetches_what_is_wanted() -> None:
    kept, asked = host(), []

    async def fetch(name: str) -> tuple[str, bytes]:
        asked.append(name)
        return "r2", LatencyModel({"a": LatencyParameters(base_s=9.0)}, "r2").to_bytes()

    shown = snapshot(artifacts={"latency": "r2"})
    await kept.refresh(shown, fetch)
    await kept.refresh(shown, fetch)
    assert asked == ["latency"]
    assert kept.latency.parameters["a"].base_s == 9.0


def test_bytes_that_cannot_be_used_leave_in_place_what_was_there() -> None:
    kept = host()
    kept.install("quality", "q1", b"good")
    kept.install("policy:1", "p1", b"good")
    for name in ("quality", "policy:1", "latency"):
        assert not kept.install(name, "new", b"bad")
    assert kept.quality is not None
    assert kept.quality.revision == "q1"
    assert str(kept.choose(SEEN, 1, 0.0)[1]) == "learned@1"
    assert kept.fallbacks["artifact"] == 3
    assert kept.wanted(snapshot(artifacts={"quality": "new", "latency": "new"})) == []


def test_a_quality_model_that_fails_is_left_out() -> None:
    kept = host()
    kept.install("quality", "broken", b"good")
    features = extract("")
    assert kept.predicted_quality(features, ("a",)) is None
    assert kept.fallbacks["quality"] == 1


def test_a_new_beta_changes_the_rule_and_no_trained_policy() -> None:
    kept = host()
    policy = Made()
    kept.hold(1, policy)
    kept.reconfigure(DispatchSettings(beta=3.0))
    assert kept.rule.beta == kept.formula.beta == 3.0
    assert policy.beta == 1.0


def test_old_versions_are_forgotten() -> None:
    kept = host()
    for version in range(1, 8):
        kept.hold(version, Made())
    assert str(kept.choose(SEEN, 7, 0.0)[1]) == "learned@7"
    assert str(kept.choose(SEEN, 2, 0.0)[1]) == "formula;fallback=missing"


OBSERVED = observe([0.9, 0.8, 0.3], [1.0, 0.4, 0.2], mask=[True, True, False])


@pytest.fixture(scope="module")
def quality() -> QualityModel:
    answers = [ScoredAnswer(str(i), extract(f"prompt {i}"), m, i % 2) for i in range(8) for m in ("a", "b")]
    return fit(QualityData.from_answers(answers), QualitySettings(epochs=1))


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    network = DispatchNetwork(hidden=8)
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return LearnedPolicy(tensors, new_manifest(tensors, DEFAULT_BETA, 8, {})).to_bytes()


def artifact_host() -> PolicyHost:
    return PolicyHost(DispatchSettings(), ArtifactLoaders())


def test_an_untrained_policy_is_exactly_the_priced_rule(checkpoint: bytes) -> None:
    kept = artifact_host()
    assert kept.install("policy:3", "r", checkpoint)
    probabilities, decider = kept.choose(OBSERVED, 3, 0.0)
    assert str(decider) == "learned@3"
    assert np.allclose(probabilities, PricedPolicy().probabilities(OBSERVED), atol=1e-12)


def test_a_quality_model_keeps_its_revision_and_does_not_know_strangers(quality: QualityModel) -> None:
    kept = artifact_host()
    assert kept.install("quality", quality.revision, quality.to_bytes())
    assert kept.quality is not None
    assert kept.quality.revision == quality.revision
    predicted = kept.predicted_quality(extract("prompt 1"), ("a", "stranger"))
    assert predicted is not None
    assert np.isnan(predicted[0]).tolist() == [False, True]


def test_a_damaged_checkpoint_is_refused(checkpoint: bytes) -> None:
    for damaged in (checkpoint[:-1], checkpoint[:100], checkpoint[:-4] + b"\x00\x00\xc0\x7f", b""):
        kept = artifact_host()
        assert not kept.install("policy:1", "r", damaged)
        assert str(kept.choose(OBSERVED, 1, 0.0)[1]) == "formula;fallback=missing"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["quality", "latency", "policy:1"]), st.binary(max_size=64))
def test_no_bytes_stop_the_host(name: str, data: bytes) -> None:
    kept = artifact_host()
    assert not kept.install(name, "r", data)
    assert kept.fallbacks["artifact"] == 1
    assert str(kept.choose(OBSERVED, None, 0.0)[1]) == "priced"


def test_a_share_of_the_requests_is_left_to_the_version_before() -> None:
    kept = host()
    drawn = Counter(kept.assigned(RolloutState(active=3, previous=2), f"d{i}", 0.0) for i in range(8_000))
    assert set(drawn) == {2, 3}
    assert 0.04 < drawn[2] / 8_000 < 0.06
    assert None in {kept.assigned(RolloutState(active=3), f"d{i}", 0.0) for i in range(200)}  # the formula


def test_versions_in_use_are_kept_however_many_came_after_them() -> None:
    kept = host()
    kept.wanted(snapshot(rollout=RolloutState(active=2, previous=1)))
    for version in range(1, 12):
        kept.hold(version, Made())
    deciders = {version: str(kept.choose(SEEN, version, 0.0)[1]) for version in (1, 2, 3)}
    assert deciders == {1: "learned@1", 2: "learned@2", 3: "formula;fallback=missing"}
