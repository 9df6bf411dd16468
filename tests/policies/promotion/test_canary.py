"""The canary climbs on good evidence, falls on bad, and rarely does the wrong thing."""

import numpy as np

from policies.promotion.canary import Canary, CanarySettings, ComparedRequest
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
        state = canary.finished(
            ComparedRequest(candidate, 0.0 if failed else reward, expected, failed, i / 10.0)
        )
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
    for i in range(210):
        canary.finished(ComparedRequest(i % 2 == 0, 0.5, 0.5, False, 500.0 + i / 10.0), now_s=521.0)
    assert canary.state.stage is Stage.PROMOTED
