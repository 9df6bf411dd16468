"""Which part of a model's slots an ingress may use: all that others leave, never less than an equal part."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from serve_app.waiting.part import Parts, fair_part
from tests.deployments.pools import View, model, snapshot


def test_alone_it_has_all():
    assert fair_part(8, []) == fair_part(8, [0]) == 8


def test_what_others_do_not_want_is_free_to_use():
    assert fair_part(32, [5]) == 27
    assert fair_part(30, [100, 0]) == 15
    assert fair_part(30, [100, 4]) == 13


def test_others_that_want_all_leave_an_equal_part():
    assert fair_part(32, [500]) == 16
    assert fair_part(1, [50]) == 1  # there is always one


@given(st.integers(1, 300), st.lists(st.integers(0, 400), max_size=6))
def test_parts_of_all_that_want_all_come_to_the_slots(slots, demands):
    """Everyone who works its part out from the same snapshot: nothing unused, little too much."""
    busy = [*demands, 1_000, 1_000]
    parts = [fair_part(slots, busy[:i] + busy[i + 1 :]) for i in range(len(busy))]
    used = [min(part, demand) for part, demand in zip(parts, busy, strict=True)]
    assert slots <= sum(used) <= slots + len(busy)


def test_it_is_worked_out_once_a_snapshot_and_again_for_ejected_replicas():
    row = replace(model("m", slots=8, replicas=2), in_flight_by_ingress={"me": 40, "other": 40})
    view, asked = View(snapshot(row)), []
    view.ingress = "me"
    ejected = [frozenset()]

    def slots(name):
        asked.append(name)
        return 16

    parts = Parts(view, slots, lambda: ejected[0])
    assert [parts.of("m"), parts.of("m"), parts.of("gone")] == [8, 8, 0]
    assert asked == ["m", "gone"]
    ejected[0] = frozenset({"m#0"})
    assert parts.of("m") == 8
    view.snapshot = snapshot(replace(row, in_flight_by_ingress={"me": 40}), version=2)
    assert parts.of("m") == 16
