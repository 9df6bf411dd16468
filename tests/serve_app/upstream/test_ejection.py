"""Ejection: three failures in a row, longer each time, forgotten at a success."""

from serve_app.upstream.ejection import FAILURES, FIRST_S, LONGEST_S, Ejections
from tests.clock import Clock


def fail(ejections, times=FAILURES):
    return [ejections.failed("r") for _ in range(times)]


def test_the_third_failure_in_a_row_ejects():
    ejections = Ejections(Clock(0.0))
    assert fail(ejections) == [False, False, True]
    assert ejections.current() == {"r"}


def test_a_success_between_starts_anew():
    ejections = Ejections(Clock(0.0))
    fail(ejections, 2)
    ejections.succeeded("r")
    assert fail(ejections, 2) == [False, False]
    assert ejections.current() == frozenset()


def test_nobody_listening_ejects_at_once():
    ejections = Ejections(Clock(0.0))
    assert ejections.failed("r", gone=True)
    assert ejections.current() == {"r"}


def test_it_returns_after_its_time_and_stays_away_longer_each_time():
    clock = Clock(0.0)
    ejections = Ejections(clock)
    period_s = FIRST_S
    for _ in range(8):
        fail(ejections)
        clock.now_s += period_s * 0.99
        assert ejections.current() == {"r"}
        clock.now_s += period_s * 0.02
        assert ejections.current() == frozenset()
        period_s = min(2 * period_s, LONGEST_S)


def test_a_success_brings_it_back_at_once():
    ejections = Ejections(Clock(0.0))
    fail(ejections)
    ejections.succeeded("r")
    assert ejections.current() == frozenset()


def test_the_set_is_the_same_object_while_nothing_changes():
    ejections = Ejections(Clock(0.0))
    fail(ejections)
    assert ejections.current() is ejections.current()


def test_replicas_that_are_gone_are_forgotten_after_their_time():
    clock = Clock(0.0)
    ejections = Ejections(clock)
    fail(ejections)
    ejections.forget(frozenset())
    assert ejections.current() == {"r"}
    clock.now_s += 2 * FIRST_S
    ejections.forget(frozenset())
    assert ejections._health == {}
