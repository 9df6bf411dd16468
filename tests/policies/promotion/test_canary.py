"""The canary climbs on good evidence, falls on bad, and rarely does the wrong thing."""

import numpy as np
import pytest

from policies.promotion.canary import Canary, CanarySettings, Proof
from policies.promotion.compared import ComparedRequest
from policies.promotion.rollout import Candidate, Stage

FAST = CanarySettings(ladder=(0.05, 0.25), min_requests=100, min_step_s=10.0)


def run(gain: float, failing: float = 0.0, seed: int = 0, requests: int = 20_000) -> Canary:
    """A canary over requests that arrive ten a second."""
    rng = np.random.default_rng(seed)
    canary = Canary(Candidate(3, Stage.CANARY), FAST)
    for i in range(requests):
        candidate = bool(rng.random() < canary.state.share)
        expected = float(rng.uniform(0.3, 0.7))
        reward = float(np.clip(expected + gain * candidate + rng.normal(0.0, 0.15), 0.0, 1.0))
        failed = bool(rng.random() < failing * candidate)
        earned = 0.0 if failed else reward
        request = ComparedRequest(candidate, earned, expected, failed, i / 10.0)
        canary.proof.add(request)
        state = canary.finished(request)
        if state.stage is not Stage.CANARY:
            break
    return canary


def test_shadow_turns_into_a_canary_after_enough_good_decisions() -> None:
    canary = Canary(Candidate(3, Stage.SHADOW), FAST)
    assert canary.shadowed(10, 0, 1.0).stage is Stage.SHADOW
    state = canary.shadowed(50, 0, 2.0)
    assert (state.stage, state.share, state.started_s) == (Stage.CANARY, 0.05, 2.0)


def test_one_unusable_shadow_decision_sends_it_back() -> None:
    canary = Canary(Candidate(3, Stage.SHADOW), FAST)
    assert canary.shadowed(1, 1, 1.0).stage is Stage.ROLLED_BACK


def test_a_better_candidate_climbs_the_whole_ladder() -> None:
    assert run(0.05).state.stage is Stage.PROMOTED


def test_an_equal_candidate_is_rarely_sent_back() -> None:
    back = sum(run(0.0, seed=seed).state.stage is Stage.ROLLED_BACK for seed in range(40))
    assert back <= 4


def test_a_bad_candidate_is_sent_back_on_its_first_step() -> None:
    canary = run(-0.3)
    assert canary.state.stage is Stage.ROLLED_BACK
    assert canary.candidate.count < 100


def test_a_failing_candidate_is_sent_back() -> None:
    canary = run(0.05, failing=0.3)
    assert canary.state.stage is Stage.ROLLED_BACK


def test_final_stages_stay() -> None:
    canary = run(-0.3)
    assert canary.finished(ComparedRequest(True, 1.0, 0.5, False, 6.0)).stage is Stage.ROLLED_BACK


def test_a_ladder_that_changed_moves_the_share_of_a_canary_under_way() -> None:
    canary = Canary(Candidate(3, Stage.CANARY, share=0.5, step=2), FAST)
    assert (canary.state.step, canary.state.share) == (1, 0.25)


def test_steps_are_not_taken_before_their_time() -> None:
    canary = Canary(Candidate(3, Stage.CANARY), FAST)
    for i in range(300):
        canary.finished(ComparedRequest(i % 2 == 0, 0.5, 0.5, False, i / 100.0))
    assert canary.state.step == 0


def test_requests_read_at_once_climb_one_step_and_no_more() -> None:
    canary = Canary(Candidate(3, Stage.CANARY), FAST)
    for i in range(5_000):
        canary.finished(ComparedRequest(i % 2 == 0, 0.5, 0.5, False, i / 10.0), now_s=500.0)
    assert (canary.state.step, canary.state.since_s) == (1, 500.0)


def test_at_the_top_of_the_ladder_a_candidate_waits_for_the_proof_that_it_is_not_worse() -> None:
    canary = Canary(Candidate(3, Stage.CANARY, step=1), FAST)
    requests = [ComparedRequest(i % 2 == 0, 0.5, 0.5, False, i / 10.0) for i in range(1_000)]
    for request in requests:
        canary.finished(request)
    assert canary.state.stage is Stage.CANARY
    for request in requests:
        canary.proof.add(request)
    assert canary.finished(requests[-2]).stage is Stage.PROMOTED


def test_a_candidate_that_is_worse_by_the_margin_hardly_ever_proves_that_it_is_not() -> None:
    proven = 0
    for seed in range(100):
        rng, proof = np.random.default_rng(seed), Proof(0.02, 0.05)
        for i in range(4_000):
            tested = i % 4 == 0
            reward = float(np.clip(0.6 - 0.02 * tested + rng.normal(0.0, 0.15), 0.0, 1.0))
            proof.add(ComparedRequest(tested, reward, 0.6, False, float(i)))
        proven += proof.is_shown
    assert proven <= 10


def test_a_candidate_that_fails_always_goes_back_within_a_few_requests() -> None:
    canary = run(0.0, failing=1.0)
    assert canary.state.stage is Stage.ROLLED_BACK
    assert canary.candidate.count <= 10


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.CANARY])
def test_a_candidate_about_which_nothing_is_learned_goes_back_in_the_end(stage: Stage) -> None:
    canary = Canary(Candidate(3, stage, started_s=100.0), CanarySettings(limit_s=500.0))
    assert canary.looked(600.0).stage is stage
    state = canary.looked(601.0)
    assert (state.stage, state.reason) == (Stage.ROLLED_BACK, "0 requests compared in 501 s: no decision")
