"""Which request of one key is next: in order where all are alike, short ones first within bounds."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.waiting.turns import PATIENCE, Turns

FAR_S = 1e9


@dataclass(eq=False)
class Asking:
    number: int
    since_s: float
    cost_s: float = 1.0
    deadline_s: float = FAR_S


def waiting(*asking: Asking) -> Turns[Asking]:
    turns: Turns[Asking] = Turns()
    for one in asking:
        turns.add(one)
    return turns


def served(turns: Turns[Asking], now_s: float = 0.0, each_s: float = 0.0) -> list[int]:
    """The numbers of all of them in the order in which they are served, one every `each_s`."""
    order = []
    while len(turns):
        one = turns.next(now_s, len(turns) * each_s)
        turns.remove(one)
        order.append(one.number)
        now_s += each_s
    return order


def test_requests_that_are_alike_keep_their_order():
    assert served(waiting(*(Asking(i, 0.1 * i) for i in range(5)))) == [0, 1, 2, 3, 4]


def test_short_ones_go_first():
    turns = waiting(Asking(0, 0.0, 5.0), Asking(1, 1.0, 2.0), Asking(2, 2.0, 0.5))
    assert served(turns) == [2, 1, 0]


def test_a_long_one_is_passed_for_a_time_in_proportion_to_its_work():
    long = Asking(0, 0.0, cost_s=5.0)
    in_time = Asking(1, PATIENCE * 4.0 - 0.1, cost_s=1.0)
    too_late = Asking(2, PATIENCE * 4.0 + 0.1, cost_s=1.0)
    assert served(waiting(long, in_time, too_late)) == [1, 0, 2]


def test_a_deadline_that_comes_near_goes_first():
    long, short = Asking(0, 0.0, cost_s=5.0, deadline_s=30.0), Asking(1, 1.0, cost_s=0.1)
    assert waiting(long, short).next(20.0, 1.0) is short  # 5 s of work and 1.5 s of the others end before 30
    assert waiting(long, short).next(24.0, 1.0) is long


def test_of_several_deadlines_the_earliest_goes_first():
    turns = waiting(*(Asking(i, 0.0, 1.0 + i, deadline_s=10.0 - i) for i in range(4)))
    assert served(turns, 5.0, 1.0) == [3, 2, 1, 0]


def test_who_came_first_and_last_is_known_whoever_leaves():
    asking = [Asking(i, 0.0, cost_s=9.0 - i) for i in range(4)]
    turns = waiting(*asking)
    assert (turns.oldest.number, turns.newest.number) == (0, 3)
    turns.remove(asking[0])
    turns.remove(asking[3])
    assert (turns.oldest.number, turns.newest.number, len(turns)) == (1, 2, 2)


WAITING = st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.001, 20.0)), min_size=1, max_size=40)


@settings(deadline=None)
@given(WAITING)
def test_nobody_is_passed_by_one_that_came_much_later(requests):
    """Without deadlines: by none that came more than PATIENCE times its own work later."""
    since = sorted(since_s for since_s, _ in requests)
    asking = [Asking(i, since[i], cost_s) for i, (_, cost_s) in enumerate(requests)]
    order = served(waiting(*asking), 10.0, 0.1)
    for place, number in enumerate(order):
        own = asking[number]
        assert all(asking[before].since_s <= own.since_s + PATIENCE * own.cost_s for before in order[:place])


@settings(deadline=None)
@given(WAITING, st.floats(0.05, 1.0), st.floats(1.0, 30.0))
def test_nobody_s_deadline_passes_that_first_come_first_served_would_keep(requests, each_s, limit_s):
    """Requests that all may wait equally long, served one every `each_s`, more of them coming meanwhile."""
    due = sorted(since_s for since_s, _ in requests)
    limit_s = max(limit_s, each_s * (len(due) + 1))
    turns, coming, now_s = waiting(), list(enumerate(due)), 0.0
    while coming or len(turns):
        while coming and coming[0][1] <= now_s:
            number, since_s = coming.pop(0)
            turns.add(Asking(number, since_s, requests[number][1], since_s + limit_s))
        if len(turns):
            one = turns.next(now_s, len(turns) * each_s)
            turns.remove(one)
            assert now_s <= one.deadline_s + 1e-9
        now_s += each_s
