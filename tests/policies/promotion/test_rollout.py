"""The rollout state: how versions follow one another, and that what earlier versions stored is still read."""

from dataclasses import replace

import msgspec
import pytest

from policies.promotion.rollout import YARDSTICK_SHARE, Candidate, RolloutState, Stage

CANARY = RolloutState(active=6, previous=5, candidate=Candidate(7, Stage.CANARY, share=0.05), last_version=7)

STORED = {  # by version 0.1.0
    "active": 6,
    "previous": None,
    "candidate": {
        "version": 7, "stage": "canary", "share": 0.05, "step": 1, "started_s": 100.0, "since_s": 160.0,
    },
    "last_version": 7,
    "promoted_s": 50.0,
    "frozen_since_s": None,
    "paused": False,
    "reference": {
        "reward": 0.6, "failure_rate": 0.01, "late_rate": 0.05, "late_s": 2.0, "cost_usd": 1e-4,
        "entropy": 0.5,
    },
    "trained_s": 40.0,
}  # fmt: skip


def test_a_promoted_candidate_is_followed_by_nobody() -> None:
    after = CANARY.promoted(9.0)
    assert (after.active, after.previous, after.candidate, after.promoted_s) == (7, 6, None, 9.0)


def test_after_a_promotion_the_version_before_has_slices_of_time_but_not_beside_a_canary() -> None:
    candidate = Candidate(7, Stage.CANARY, seed=5, slice_s=40.0)
    after = replace(CANARY, candidate=candidate).promoted(9.0)
    before = after.yardstick
    assert before is not None
    assert (before.version, before.seed, before.slice_s) == (6, 5, 40.0)
    assert before.steps[0].share == YARDSTICK_SHARE
    assert replace(after, candidate=Candidate(8, Stage.CANARY)).yardstick is None
    assert replace(after, candidate=Candidate(8, Stage.SHADOW)).yardstick is not None
    assert replace(after, previous=None).yardstick == replace(before, version=0)
    assert RolloutState().yardstick is None


def test_a_state_of_before_has_no_such_slices() -> None:
    assert replace(CANARY, candidate=None).yardstick is None


def test_a_rollback_takes_the_candidate_first_and_then_the_active_version() -> None:
    once = CANARY.rolled_back(9.0)
    assert (once.active, once.candidate, once.frozen_since_s) == (6, None, 9.0)
    twice = once.rolled_back(10.0)
    assert (twice.active, twice.previous, twice.frozen_since_s) == (5, None, 10.0)


def test_an_active_version_that_gives_way_takes_its_candidate_with_it() -> None:
    after = CANARY.reverted(9.0)
    assert (after.active, after.candidate) == (5, None)


def test_without_a_candidate_nothing_is_promoted() -> None:
    with pytest.raises(ValueError, match="nothing to promote"):
        RolloutState().promoted(9.0)


def test_the_versions_that_may_decide() -> None:
    assert CANARY.versions == {5, 6, 7}
    assert RolloutState().versions == set()
    assert CANARY.tries(7)
    assert not CANARY.tries(6)


@pytest.mark.parametrize("state", [CANARY, RolloutState(), replace(CANARY, yardstick_share=0.02)])
def test_what_is_stored_is_read_again(state: RolloutState) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=RolloutState) == state


def test_what_an_earlier_version_stored_is_read() -> None:
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(STORED), type=RolloutState)
    assert state.candidate == Candidate(7, Stage.CANARY, 0.05, 1, 100.0, 160.0)
    assert (state.active, state.previous, state.trained_s) == (6, None, 40.0)
    assert state.yardstick_share == YARDSTICK_SHARE
