"""The retry budget over its window."""

from hypothesis import given
from hypothesis import strategies as st

from serve_app.config import Retries
from serve_app.upstream.retry_budget import WINDOW_S, RetryBudget
from tests.clock import Clock


def budget(clock, **settings):
    return RetryBudget(Retries(**settings), clock)


def test_the_floor_is_always_allowed():
    made = budget(Clock(100.0), floor=3, share=0.1)
    assert [made.allow() for _ in range(5)] == [True, True, True, False, False]


def test_beyond_the_floor_a_share_of_the_requests():
    made = budget(Clock(100.0), floor=0, share=0.1)
    for _ in range(50):
        made.request()
    assert [made.allow() for _ in range(7)].count(True) == 5


def test_what_is_older_than_the_window_is_forgotten():
    clock = Clock(100.0)
    made = budget(clock, floor=1, share=0.0)
    assert made.allow()
    clock.now_s += WINDOW_S - 1
    assert not made.allow()
    clock.now_s += 1
    assert made.allow()


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30), st.integers(0, 30)), max_size=30))
def test_retries_in_any_window_stay_within_the_larger_of_floor_and_share(steps):
    clock = Clock(100.0)
    made = budget(clock, floor=2, share=0.1)
    seen: list[tuple[int, int, int]] = []
    for wait_s, requests, asked in steps:
        clock.now_s += wait_s
        for _ in range(requests):
            made.request()
        seen.append((int(clock.now_s), requests, sum(made.allow() for _ in range(asked))))
    now = int(clock.now_s)
    window = [one for one in seen if one[0] > now - WINDOW_S]
    assert sum(retries for *_, retries in window) <= max(2, 1 + 0.1 * sum(r for _, r, _ in seen))


def test_hedges_stay_within_the_budget_and_take_no_retry_s_place():
    made = budget(Clock(100.0), floor=3, share=0.0)
    made.allow()
    for _ in range(2):
        assert made.has_room_to_hedge
        made.hedge()
    assert not made.has_room_to_hedge
    assert [made.allow() for _ in range(3)] == [True, True, False]
