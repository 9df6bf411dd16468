"""Slices of time: who serves when, and which requests count."""

import pytest

from policies.promotion.rollout import Candidate, Stage, Step
from policies.promotion.slices import Block, Slice, SliceBook, SlicedRequest, schedule, serves

SLICE_S = 30.0


def candidate(*steps: Step, seed: int = 7, held_until_s: float = 0.0) -> Candidate:
    return Candidate(
        2,
        Stage.CANARY,
        seed=seed,
        slice_s=SLICE_S,
        steps=steps or (Step(0.0, 0.25),),
        held_until_s=held_until_s,
    )


def starts_of(state: Candidate, count: int, step: int = -1) -> list[float]:
    """Starts of the candidate's slices among the first `count` ones."""
    slices = schedule(state, step)
    return [slices.start_s(number) for number in range(count) if slices.is_tested(number)]


@pytest.mark.parametrize("share", [0.5, 0.25, 0.05])
def test_in_every_block_exactly_one_slice_is_the_candidates(share: float) -> None:
    slices = schedule(candidate(Step(100.0, share)))
    size = round(1.0 / share)
    drawn = [[slices.is_tested(block * size + i) for i in range(size)] for block in range(200)]
    assert {sum(block) for block in drawn} == {1}
    assert len({block.index(True) for block in drawn}) == size  # at any place


def test_all_replicas_know_whose_turn_it_is_from_the_seed_alone() -> None:
    state = candidate()
    turns = [serves(state, at_s) for at_s in range(0, 6_000, 30)]
    assert turns == [serves(candidate(), at_s) for at_s in range(0, 6_000, 30)]
    assert turns != [serves(candidate(seed=8), at_s) for at_s in range(0, 6_000, 30)]
    assert sum(turns) == 50


def test_nothing_is_served_before_the_step_nor_while_it_is_held() -> None:
    state = candidate(Step(1_000.0, 0.5))
    start_s = starts_of(state, 2)[0]
    assert serves(state, start_s + 1.0)
    assert not any(serves(state, at_s) for at_s in range(0, 1_000, 10))
    assert not serves(candidate(Step(1_000.0, 0.5), held_until_s=start_s + SLICE_S), start_s + 1.0)
    assert not serves(Candidate(2, Stage.CANARY), 5.0)


def book_with(state: Candidate, requests: list[SlicedRequest]) -> SliceBook:
    book = SliceBook(0.05)
    for request in requests:
        book.add(state, request)
    return book


def test_what_begins_in_the_washout_or_under_another_version_does_not_count() -> None:
    state = candidate()
    start_s = starts_of(state, 4)[0]
    book = book_with(
        state,
        [
            SlicedRequest(True, start_s + 1.0, 0.9, failed=False),
            SlicedRequest(True, start_s + 11.0, 0.1, failed=False),
            SlicedRequest(False, start_s + 12.0, -0.9, failed=False),
        ],
    )
    slices = list(book.closed(state, 4 * SLICE_S))
    assert [one.tested for one in slices].count(True) == 1
    (tested,) = (one for one in slices if one.tested)
    assert (tested.count, tested.surplus) == (1, 0.1)


def test_a_slice_closes_once_and_only_when_all_of_it_is_known() -> None:
    state = candidate()
    book = book_with(state, [SlicedRequest(False, 25.0, 0.0, failed=False)])
    assert list(book.closed(state, 29.0)) == []
    assert len(list(book.closed(state, 65.0))) == 2
    assert list(book.closed(state, 65.0)) == []


def test_a_slice_in_which_failures_jump_counts_up_to_there_whoever_served_it() -> None:
    state = candidate()
    for tested in (True, False):
        slices = schedule(state)
        number = next(number for number in range(4) if slices.is_tested(number) == tested)
        start_s = slices.start_s(number)
        failing = [SlicedRequest(tested, start_s + i, -0.5, failed=True) for i in range(6)]
        late = [SlicedRequest(tested, start_s + 20.0 + i, 0.5, failed=False) for i in range(5)]
        book = book_with(state, failing + late)
        assert book.is_cut(state, start_s + 1.0) == tested
        one = list(book.closed(state, 4 * SLICE_S))[number]
        assert (one.is_cut, one.count, one.surplus) == (True, 5, -2.5)


def test_the_slices_of_an_earlier_step_end_with_it() -> None:
    state = candidate(Step(0.0, 0.25), Step(70.0, 0.5))
    slices = list(SliceBook(0.05).closed(state, 131.0))
    assert [(one.step, one.number) for one in slices] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_block_without_requests_on_one_side_says_nothing() -> None:
    block = Block(2, 0.25)
    assert not block.add(Slice(0, 0, True, 3, 0.3))
    assert block.add(Slice(0, 1, False))
    assert block.difference is None


def test_a_slice_that_was_cut_counts_as_worse_whoever_served_it() -> None:
    quick = Slice(0, 0, True, 5, 5.0, 5, is_cut=True)  # what had ended by then were quick requests
    block = Block(2, 0.25)
    block.add(quick)
    block.add(Slice(0, 1, False, 10, 1.0))
    assert block.difference == pytest.approx(-0.25)
    block = Block(3, 0.25)
    for one in (
        Slice(0, 0, False, 5, 5.0, 5, is_cut=True),
        Slice(0, 1, True, 10, 1.0),
        Slice(0, 2, False, 10, 1.0),
    ):
        block.add(one)
    assert block.difference == pytest.approx(0.125)
