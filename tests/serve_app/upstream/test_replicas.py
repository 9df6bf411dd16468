"""Which replica takes a request: health, load, ejection; and what counts as silence."""

from dataclasses import replace

import pytest

from deployments.records.snapshot import ModelCard, ModelRow, ReplicaRow, ReplicaState, Snapshot
from serve_app.upstream.ejection import Ejections
from serve_app.upstream.replicas import Upstreams

NOW_S = 1000.0


def row(name, **changes):
    made = ReplicaRow(name, "m", f"http://{name}", ReplicaState.WARM, slots=4, pushed_at_s=NOW_S)
    return replace(made, **changes)


class View:
    secret = "s"
    lagging = False

    def __init__(self, *rows: ReplicaRow) -> None:
        self.snapshot = Snapshot("b", 1, NOW_S, {"m": ModelRow(ModelCard("m", "simulated", "", 100), rows)})
        self.age = 0.0
        self.busy: dict[str, int] = {}

    def age_s(self) -> float:
        return self.age

    def in_flight(self, model: str) -> int:
        return 0

    def replica_in_flight(self, replica: str) -> int:
        return self.busy.get(replica, 0)


def upstreams(*rows):
    view = View(*rows)
    return view, Upstreams(view, Ejections(lambda: 0.0))


def test_the_least_loaded_per_slot_is_picked():
    view, made = upstreams(row("a", running=3), row("b", running=4, slots=16), row("c", waiting=2))
    assert made.pick("m").replica == "b"
    view.busy["b"] = 12
    assert made.pick("m").replica == "c"


def test_equals_take_turns():
    _, made = upstreams(row("a"), row("b"), row("c"))
    assert {made.pick("m").replica for _ in range(6)} == {"a", "b", "c"}


@pytest.mark.parametrize(
    "change",
    [
        {"state": ReplicaState.COLD},
        {"state": ReplicaState.DRAINING},
        {"state": ReplicaState.STALLED},
        {"pushed_at_s": NOW_S - 2.0},
    ],
)
def test_what_is_not_warm_or_is_silent_is_not_asked(change):
    _, made = upstreams(row("a", **change), row("b", running=4))
    assert made.pick("m").replica == "b"
    _, alone = upstreams(row("a", **change))
    assert alone.pick("m") is None


def test_a_table_that_is_away_makes_no_replica_silent():
    view, made = upstreams(row("a"))
    view.age = 3600.0
    assert made.pick("m").replica == "a"
    assert made.silent(5.0) == frozenset()


def test_silence_is_told_of_one_replica_among_others():
    _, made = upstreams(row("a"), row("b", pushed_at_s=NOW_S - 9.0))
    assert made.silent(8.0) == {"b"}


def test_tried_and_ejected_replicas_are_left_out():
    _, made = upstreams(row("a"), row("b"))
    made.ejections.failed("a", gone=True)
    assert {made.pick("m").replica for _ in range(4)} == {"b"}
    assert made.pick("m", {"b"}).replica == "a"  # the last one is asked although it is ejected
    assert made.pick("m", {"a", "b"}) is None


def test_a_pool_in_which_everybody_failed_avoids_nobody():
    _, made = upstreams(row("a"), row("b"))
    made.ejections.failed("a", gone=True)
    assert made.avoided() == {"a"}
    made.ejections.failed("b", gone=True)
    assert made.avoided() == frozenset()


def test_an_unknown_model_has_no_replica():
    _, made = upstreams(row("a"))
    assert made.pick("nope") is None


def test_an_engine_in_a_long_step_says_so_as_long_as_it_is_warm():
    _, made = upstreams(
        row("a", step_s=20.0), row("b", step_s=0.1), row("c", step_s=20.0, state=ReplicaState.STALLED)
    )
    assert [made.in_a_step(row(name)) for name in ("a", "b", "c", "gone")] == [True, False, False, False]


def test_only_a_replica_that_says_of_late_that_it_writes_does():
    silent = row("c", tokens_per_s=5.0, pushed_at_s=NOW_S - 2.0)
    _, made = upstreams(row("a", tokens_per_s=5.0), row("b"), silent)
    assert [made.is_writing(row(name)) for name in "abc"] == [True, False, False]
