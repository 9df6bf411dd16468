"""The canary climbs on good evidence, falls on bad, and rarely does the wrong thing."""

import numpy as np
import pytest

from policies.promotion.canary import Canary, CanarySettings, Proof
from policies.promotion.rollout import Candidate, Stage, Step
from policies.promotion.slices import Slice, SlicedRequest, schedule, serves

FAST = CanarySettings(ladder=(0.25, 0.5), min_requests=10, min_step_s=10.0)
ON_TRIAL = Candidate(3, Stage.CANARY, seed=1, slice_s=10.0, steps=(Step(0.0, 0.25),))
PER_S = 2  # requests


def run(
    gain: float, failing: float = 0.0, seed: int = 0, slices: int = 3_000, trial: Candidate = ON_TRIAL
) -> Canary:
    """A canary over requests that the version of the slice serves."""
    rng = np.random.default_rng(seed)
    canary = Canary(trial, FAST)
    for number in range(slices):
        for i in range(10 * PER_S):
            at_s = number * 10.0 + i / PER_S
            tested = serves(canary.state, at_s)
            failed = bool(rng.random() < failing * tested)
            surplus = -0.5 if failed else float(gain * tested + rng.normal(0.0, 0.15))
            request = SlicedRequest(tested, at_s, surplus, failed)
            canary.finished(request)
            canary.with_votes(request)
            if failed:
                canary.looked(at_s)
        end_s = number * 10.0 + 10.0
        if canary.looked(end_s, end_s, end_s).stage is not Stage.CANARY:
            break
    return canary


def test_shadow_turns_into_a_canary_after_enough_good_decisions() -> None:
    canary = Canary(Candidate(3, Stage.SHADOW), FAST)
    assert canary.shadowed(10, 0, 1.0).stage is Stage.SHADOW
    state = canary.shadowed(50, 0, 2.0, longest_s=20.0, requests_per_s=5.0)
    assert (state.stage, state.share, state.started_s) == (Stage.CANARY, 0.25, 2.0)
    assert (state.steps, state.slice_s) == ((Step(2.0, 0.25),), 160.0)
    assert state.seed


def test_a_slice_is_several_times_the_longest_latency_and_holds_enough_requests() -> None:
    assert FAST.slice_s(0.1, 100.0) == FAST.min_slice_s
    assert FAST.slice_s(50.0, 100.0) == 400.0
    assert FAST.slice_s(0.1, 0.1) == 200.0


def test_one_unusable_shadow_decision_sends_it_back() -> None:
    canary = Canary(Candidate(3, Stage.SHADOW), FAST)
    assert canary.shadowed(1, 1, 1.0).stage is Stage.ROLLED_BACK


def test_a_better_candidate_climbs_the_whole_ladder() -> None:
    canary = run(0.05)
    assert canary.state.stage is Stage.PROMOTED
    assert [step.share for step in canary.state.steps] == [0.25, 0.5]


def test_an_equal_candidate_is_rarely_sent_back() -> None:
    back = sum(run(0.0, seed=seed, slices=400).state.stage is Stage.ROLLED_BACK for seed in range(30))
    assert back <= 4


def test_a_bad_candidate_is_sent_back_on_its_first_step() -> None:
    canary = run(-0.3)
    assert (canary.state.stage, canary.state.step) == (Stage.ROLLED_BACK, 0)


def test_a_failing_candidate_is_sent_back_and_its_slices_end_early() -> None:
    canary = run(0.05, failing=0.5)
    assert canary.state.stage is Stage.ROLLED_BACK
    assert "ended early" in canary.state.reason
    assert canary.candidate.count < 100  # of the 20 in every fourth slice


def test_a_slice_in_which_everything_fails_ends_after_a_few_requests() -> None:
    canary = Canary(ON_TRIAL, FAST)
    slices = schedule(ON_TRIAL)
    start_s = next(slices.start_s(number) for number in range(4) if slices.is_tested(number))
    for i in range(5):
        assert serves(canary.state, start_s + i / 10.0)
        canary.finished(SlicedRequest(True, start_s + i / 10.0, -0.5, failed=True))
        canary.looked(start_s + i / 10.0)
    assert canary.state.held_until_s == start_s + 10.0
    assert not serves(canary.state, start_s + 1.0)


def test_final_stages_stay() -> None:
    canary = run(-0.3)
    assert canary.looked(1e5, 1e5, 1e5).stage is Stage.ROLLED_BACK


def test_a_canary_that_an_earlier_release_began_gets_slices() -> None:
    state = Canary(Candidate(3, Stage.CANARY, share=0.01, step=2, started_s=1.0), FAST).looked(5.0)
    assert (state.step, state.share, state.steps) == (1, 0.5, (Step(5.0, 0.5),))


def test_steps_are_not_taken_before_their_time() -> None:
    canary = run(0.0, slices=4, trial=ON_TRIAL)
    assert canary.state.step == 1  # one block
    slow = Canary(ON_TRIAL, FAST.replace(min_step_s=1e3))
    slow.judge([Slice(0, number, schedule(ON_TRIAL).is_tested(number), 40) for number in range(4)], 40.0)
    assert slow.looked(40.0).step == 0
    assert slow.looked(1_001.0).step == 1


def test_at_the_top_of_the_ladder_a_candidate_waits_for_the_proof_that_it_is_not_worse() -> None:
    top = Candidate(3, Stage.CANARY, step=1, share=0.5, seed=1, slice_s=10.0, steps=(Step(0.0, 0.5),))
    canary = Canary(top, FAST)
    slices = [Slice(0, number, schedule(top).is_tested(number), 40) for number in range(1_000)]
    canary.judge(slices, 1e4)
    assert canary.looked(1e4).stage is Stage.CANARY
    canary.prove(slices)
    assert canary.looked(1e4).stage is Stage.PROMOTED


def differences(mean: float, rng: np.random.Generator, state: Candidate, blocks: int) -> list[Slice]:
    """Pairs of slices."""
    pairs = schedule(state)
    return [
        Slice(0, n, pairs.is_tested(n), 1, float(mean * pairs.is_tested(n) + rng.normal(0.0, 0.05)))
        for n in range(2 * blocks)
    ]


@pytest.mark.parametrize(("owes_gain", "mean"), [(False, -0.01), (True, 0.0)])
def test_a_candidate_that_is_not_good_enough_hardly_ever_proves_that_it_is(
    owes_gain: bool, mean: float
) -> None:
    top = Candidate(3, Stage.CANARY, seed=1, steps=(Step(0.0, 0.5),), owes_gain=owes_gain)
    proven = 0
    for seed in range(100):
        rng, proof = np.random.default_rng(seed), Proof(top, CanarySettings())
        for one in differences(mean, rng, top, 500):
            proof.add(top, one)
        proven += proof.is_shown
    assert proven <= 10


def test_a_candidate_that_owes_a_gain_is_promoted_with_it_and_given_up_without() -> None:
    top = Candidate(3, Stage.CANARY, seed=1, steps=(Step(0.0, 0.5),), owes_gain=True)
    for mean, expected in ((0.03, (True, False)), (0.0, (False, True))):
        proof = Proof(top, CanarySettings())
        for one in differences(mean, np.random.default_rng(3), top, 600):
            proof.add(top, one)
        assert (proof.is_shown, proof.is_futile) == expected


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.CANARY])
def test_a_candidate_about_which_nothing_is_learned_goes_back_in_the_end(stage: Stage) -> None:
    canary = Canary(Candidate(3, stage, started_s=100.0), CanarySettings(limit_s=500.0))
    assert canary.looked(600.0).stage is stage
    state = canary.looked(601.0)
    assert (state.stage, state.reason) == (Stage.ROLLED_BACK, "0 requests compared in 501 s: no decision")


@pytest.mark.parametrize("ladder", [(), (0.5, 0.2), (0.6,)])
def test_a_ladder_ascends_up_to_a_half(ladder: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ladder"):
        CanarySettings(ladder=ladder)
