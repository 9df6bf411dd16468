"""The evaluator keeps behind users, and tells its own requests from theirs."""

import pytest

from deployments.evaluation.pace import GONE_S, LAG_S, STALE_S, Pace
from deployments.evaluation.settings import PaceSettings
from deployments.records.snapshot import ModelRow, ReplicaState, Snapshot
from tests.clock import Clock
from tests.deployments.fake_endpoint import card, warm


def snapshot(waiting: int = 0, **in_flight: int) -> Snapshot:
    rows = {m: ModelRow(card(m), (warm(m, waiting=waiting),), in_flight=n) for m, n in in_flight.items()}
    return Snapshot("b", 1, 0.0, rows)


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


def pace(clock: Clock, **settings: object) -> Pace:
    return Pace(PaceSettings.model_validate({"concurrency": 2, "user_share": 0.25, **settings}), clock)


def test_nothing_is_asked_without_a_table_a_row_or_a_warm_replica(clock: Clock) -> None:
    p = pace(clock)
    assert p.why_not("a") == "no table"
    p.see(snapshot(a=0))
    assert p.why_not("a") is None
    assert p.why_not("b") == "not in the table"
    clock.now_s += STALE_S + 1
    assert p.why_not("a") is not None
    cold = ModelRow(card("a"), (warm("a"),))
    cold = ModelRow(
        card("a"), tuple(type(r)(r.replica, r.model, r.url, ReplicaState.COLD) for r in cold.replicas)
    )
    p.see(Snapshot("b", 2, 0.0, {"a": cold}))
    assert p.why_not("a") == "no warm replica"


def test_own_requests_are_not_users(clock: Clock) -> None:
    p = pace(clock)
    p.begin("a")
    p.begin("a")
    p.see(snapshot(a=2))
    assert (p.users("a"), p.why_not("a")) == (0, None)
    p.end("a")
    p.see(snapshot(a=2))  # the table does not know yet that one ended
    assert p.users("a") == 0
    clock.now_s += LAG_S + 0.1
    p.see(snapshot(a=2))
    assert p.users("a") == 1


def test_one_user_is_seen_while_the_evaluator_is_at_full_concurrency(clock: Clock) -> None:
    p = pace(clock)
    for _ in range(20):
        p.begin("a")
        p.begin("a")
        clock.now_s += 0.05
        p.end("a")
        p.end("a")
    p.begin("a")
    p.begin("a")
    p.see(snapshot(a=3))
    assert p.users("a") == 1


def test_a_share_of_the_slots_may_be_users(clock: Clock) -> None:
    p = pace(clock)
    p.see(snapshot(a=1))  # 1 of 4 slots
    assert p.why_not("a") is None
    p.see(snapshot(a=2))
    assert p.why_not("a") == "users"
    p.see(snapshot(a=0))
    assert p.why_not("a") is None


def test_a_queue_of_users_stops_it_at_once(clock: Clock) -> None:
    p = pace(clock, user_share=1.0)
    p.see(snapshot(waiting=1, a=1))
    assert p.why_not("a") == "users"


def test_models_on_one_machine_share_their_users(clock: Clock) -> None:
    apart, together = pace(clock, user_share=0.0), pace(clock, user_share=0.0, shared_machine=True)
    for p in (apart, together):
        p.see(snapshot(a=1, b=0))
    assert (apart.why_not("a"), apart.why_not("b")) == ("users", None)
    assert (together.why_not("a"), together.why_not("b")) == ("users", "users")


def test_it_waits_until_it_has_been_quiet(clock: Clock) -> None:
    p = pace(clock, user_share=0.0, quiet_s=2.0)
    p.see(snapshot(a=1))
    clock.now_s += 1.0
    p.see(snapshot(a=0))
    assert p.why_not("a") == "users"
    clock.now_s += 1.5
    p.see(snapshot(a=0))
    assert p.why_not("a") is None


def finished(version: int, **requests: int) -> Snapshot:
    return Snapshot(
        "b", version, 0.0, {m: ModelRow(card(m), (warm(m),), requests=n) for m, n in requests.items()}
    )


def test_users_too_quick_to_be_seen_in_flight_are_seen_in_the_count(clock: Clock) -> None:
    p = pace(clock, user_share=0.0, quiet_s=2.0)
    p.see(finished(1, a=7))
    assert p.why_not("a") is None
    p.see(finished(2, a=8))
    assert p.why_not("a") == "users"
    clock.now_s += 2.1
    p.see(finished(3, a=8))
    assert p.why_not("a") is None


def test_own_requests_in_the_count_are_not_users(clock: Clock) -> None:
    p = pace(clock, user_share=0.0, quiet_s=2.0)
    p.see(finished(1, a=7))
    for _ in range(3):
        p.begin("a")
        p.end("a")
    p.see(finished(2, a=8))  # the other two are not counted yet
    p.see(finished(3, a=10))
    assert p.why_not("a") is None


def test_after_meeting_its_share_of_users_it_waits_until_they_are_gone(clock: Clock) -> None:
    p = pace(clock, user_share=0.0, quiet_s=1.0, met_share=0.1)
    p.see(finished(1, a=0))
    p.begin("a")
    p.see(finished(2, a=1))  # a user comes upon the evaluation
    p.end("a")
    clock.now_s += 2.0
    p.see(finished(3, a=2))
    assert p.why_not("a") == "users"
    clock.now_s += GONE_S
    p.see(finished(4, a=2))
    assert p.why_not("a") is None
    for number in range(20):  # users enough to have paid for once
        p.see(finished(5 + number, a=3 + number))
    clock.now_s += 1.1
    p.see(finished(30, a=22))
    assert p.why_not("a") is None
