import math

import pytest

from policies.scaling import FIRST_LOAD_S, Goal, Now, Planned, ReplicaPlan, late_share, replicas_for

GOAL = Goal(ttft_s=1.0, share=0.95, idle_s=60.0, wake_requests=4.0)
TICK_S = 0.5


class Pool:
    """A model whose replicas start `load_s` after they are wanted and leave at once, on virtual time."""

    def __init__(self, load_s: float = 5.0, running: int = 1, least: int = 0) -> None:
        self.load_s, self.least, self.now_s = load_s, least, 0.0
        self.plan = ReplicaPlan(0.0)
        self.ready_s = [0.0] * running

    @property
    def running(self) -> int:
        return sum(ready_s <= self.now_s for ready_s in self.ready_s)

    def go(self, seconds: float, per_s: float = 0.0, named: float = 0.0, in_flight: int = 0) -> int:
        """Let time pass at this rate of requests of one second each; returns what was wanted in the end."""
        until_s, wanted = self.now_s + seconds, 0
        while self.now_s < until_s:
            self.now_s += TICK_S
            count = per_s * TICK_S
            self.plan.arrived(Planned(count, named, 0.1 * count, 1.0 * count), GOAL.idle_s, self.now_s)
            now = Now(self.running, self.least, 8, slots=4.0, in_flight=in_flight)
            wanted = self.plan.wanted(GOAL, now, self.now_s)
            self.ready_s = self.ready_s[:wanted]
            self.ready_s += [self.now_s + self.load_s] * (wanted - len(self.ready_s))
        return wanted


@pytest.mark.parametrize(
    ("busy", "servers", "slack", "late"),
    [
        (0.5, 1, 0.0, 0.5),  # M/M/1: it waits when the server is busy
        (1.0, 2, 0.0, 1 / 3),
        (1.0, 2, 1.0, math.exp(-1) / 3),
        (0.0, 1, 0.0, 0.0),
        (4.0, 4, 1.0, 1.0),
    ],
)
def test_who_is_late_is_as_erlang_has_it(busy: float, servers: float, slack: float, late: float) -> None:
    assert late_share(busy, servers, slack) == pytest.approx(late)


def test_a_large_pool_needs_less_room_for_each_request_than_a_small_one() -> None:
    needed = [replicas_for(busy, 4.0, 0.5, 0.95, 1_000) for busy in (1.0, 10.0, 100.0)]
    assert needed == sorted(needed)
    assert needed[2] < 100 * needed[0]
    assert needed[2] * 4.0 < 1.1 * 100.0
    assert replicas_for(1e6, 4.0, 0.5, 0.95, 3) == 3, "the most there may be"


def test_replicas_follow_the_requests_up_and_down() -> None:
    pool = Pool()
    assert pool.go(60.0, per_s=1.0) == 1
    assert pool.go(60.0, per_s=10.0) >= 3
    high = pool.running
    assert pool.go(4.0, per_s=1.0) == high, "within a load time it might be needed again"
    assert pool.go(60.0, per_s=1.0) == 1


def test_a_rise_is_seen_a_load_time_ahead() -> None:
    pool = Pool()
    pool.go(60.0, per_s=4.0)
    level = pool.go(1.0, per_s=4.0)
    for per_s in range(4, 16):
        pool.go(1.0, per_s=float(per_s))
    steady = Pool()
    steady.go(60.0, per_s=15.0)
    assert level < pool.go(TICK_S, per_s=16.0) >= steady.go(TICK_S, per_s=15.0)


def test_how_long_a_start_takes_is_learned() -> None:
    pool = Pool(load_s=9.0, running=0)
    pool.go(1.0)
    assert pool.plan.load_s == FIRST_LOAD_S
    pool.go(20.0, named=1.0)
    assert pool.plan.load_s == pytest.approx(9.0, abs=2 * TICK_S)


def test_replicas_that_start_at_once_teach_the_same_start() -> None:
    plan = ReplicaPlan(0.0)
    plan.wanted(GOAL, Now(0, 0, 8), 0.0)
    for now_s, running in ((1.0, 0), (8.0, 1), (8.5, 2), (9.0, 3)):
        plan.wanted(GOAL, Now(running, 3, 8), now_s)
    assert plan.load_s == pytest.approx(8.0)
    plan.wanted(GOAL, Now(3, 3, 8), 100.0)
    assert plan.ready_in_s(100.0) == plan.load_s


def test_a_start_that_had_begun_before_the_first_question_teaches_nothing() -> None:
    plan = ReplicaPlan(0.0)
    for now_s, running in ((0.0, 0), (0.5, 1)):
        plan.wanted(GOAL, Now(running, 1, 8), now_s)
    assert plan.load_s == FIRST_LOAD_S


def test_a_start_that_was_called_off_teaches_nothing() -> None:
    plan = ReplicaPlan(0.0)
    course = ((0.0, 0, 0), (1.0, 0, 1), (5.0, 1, 1), (50.0, 1, 2), (90.0, 1, 1), (200.0, 1, 2), (203.0, 2, 2))
    for now_s, running, least in course:
        plan.wanted(GOAL, Now(running, least, 8), now_s)
    assert plan.load_s == pytest.approx(4.0)


def test_a_start_that_is_long_overdue_promises_nothing() -> None:
    plan = ReplicaPlan(0.0)
    plan.wanted(GOAL, Now(0, 1, 8), 0.0)
    assert plan.ready_in_s(FIRST_LOAD_S + 10.0) == 1.0
    assert plan.ready_in_s(1_000.0) == 0.0


def test_a_model_that_nobody_wants_sleeps_and_wakes_when_it_is_named() -> None:
    pool = Pool()
    pool.go(5.0, named=1.0)
    assert pool.go(GOAL.idle_s - 1.0) == 1
    assert pool.go(2.0) == 0
    assert pool.plan.ready_in_s(pool.now_s) == pool.plan.load_s
    assert pool.go(TICK_S, named=1.0) == 1
    pool.go(2.0)
    assert pool.plan.ready_in_s(pool.now_s) == pytest.approx(pool.plan.load_s - 2.0)


def test_a_model_that_is_busy_does_not_sleep() -> None:
    pool = Pool()
    assert pool.go(3 * GOAL.idle_s, in_flight=1) == 1


def test_what_dispatch_would_send_it_wakes_a_model_before_anybody_names_it() -> None:
    pool = Pool(running=0)
    assert pool.go(2 * GOAL.idle_s, per_s=0.04) == 0, "2.4 requests in a minute: too few to load it for"
    assert pool.go(2 * GOAL.idle_s, per_s=0.1) == 1


def test_it_keeps_to_the_bounds() -> None:
    assert Pool(least=2).go(200.0) == 2
    assert Pool().go(60.0, per_s=1_000.0) == 8


def test_a_plan_that_has_just_begun_takes_nothing_away() -> None:
    pool = Pool(running=5)
    assert pool.go(FIRST_LOAD_S - 1.0, per_s=0.5) == 5
    assert pool.go(FIRST_LOAD_S + 2.0, per_s=0.5) == 1
