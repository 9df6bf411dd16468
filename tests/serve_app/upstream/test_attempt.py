"""The watch over tries: what ends one, and what it waits for."""

import pytest

from deployments.records.snapshot import ReplicaRow, ReplicaState
from serve_app.upstream.attempt import NEVER, Attempt, Watch

ROW = ReplicaRow("r", "m", "http://r", ReplicaState.WARM)


class Replicas:
    """What the table says of them."""

    def __init__(self) -> None:
        self.silent_s, self.are_stepping = 0.0, False

    def silent(self, limit_s):
        return frozenset({"r"} if self.silent_s > limit_s else ())

    def in_a_step(self, row):
        return self.are_stepping


class Timer:
    """Takes the end that the watch sets."""

    def reschedule(self, when):
        self.when = when


@pytest.fixture(name="replicas")
def replicas_fixture():
    return Replicas()


@pytest.fixture(name="watched")
def watched_fixture(replicas):
    watch = Watch(replicas, lambda: 3.0)
    attempt = Attempt(ROW, 30.0, Timer())
    watch.attempts.add(attempt)
    return watch, attempt


def test_a_try_ends_at_its_limit(watched):
    watch, attempt = watched
    watch.look(29.9)
    assert attempt.reason == ""
    watch.look(30.0)
    assert attempt.reason == "timeout"


def test_a_stream_that_waits_for_a_long_step_goes_on_until_its_deadline(watched, replicas):
    watch, attempt = watched
    attempt.patient_until_s, replicas.are_stepping = 300.0, True
    for now_s in (30.0, 100.0, 299.0):
        watch.look(now_s)
        assert attempt.reason == ""
    watch.look(300.0)
    assert attempt.reason == "timeout"


def test_a_stream_that_hangs_beside_an_engine_that_steps_is_ended(watched, replicas):
    watch, attempt = watched
    attempt.patient_until_s = 300.0
    watch.look(30.0)
    assert attempt.reason == "timeout"


def test_a_long_step_makes_nobody_wait_who_may_be_served_elsewhere(watched, replicas):
    watch, attempt = watched
    replicas.are_stepping = True
    watch.look(30.0)
    assert attempt.reason == "timeout"


def test_silence_ends_a_try_that_may_be_had_elsewhere_and_later_any(watched, replicas):
    watch, attempt = watched
    bound = Attempt(ROW, NEVER, Timer())
    bound.is_bound = True
    watch.attempts.add(bound)
    replicas.silent_s = 3.1
    watch.look(1.0)
    assert (attempt.reason, bound.reason) == ("silent", "")
    replicas.silent_s = 12.1
    watch.look(2.0)
    assert bound.reason == "silent"


def test_a_client_that_does_not_read_ends_a_try(watched):
    watch, attempt = watched
    attempt.send_limit_s = 1.0
    watch.look(2.0)
    assert attempt.reason == "reader"
