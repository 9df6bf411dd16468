"""Live rows appear with pushes and disappear with silence."""

from dataclasses import replace

from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState
from deployments.table.live import (
    CARD_KEPT_S,
    GRACE_S,
    INGRESS_SILENT_S,
    REPLICA_SILENT_S,
    RESTORED_S,
    LiveRows,
)

CARD = ModelCard("m", "simulated", "", 4096)
ROW = ReplicaRow("r1", "m", "http://127.0.0.1:1", ReplicaState.WARM)


def rows_with(*replicas: ReplicaRow) -> LiveRows:
    rows = LiveRows()
    rows.register(CARD, 0.0)
    for row in replicas:
        rows.push(row, 0.0)
    return rows


def test_a_push_is_stamped_and_says_what_changed() -> None:
    rows = rows_with()
    assert rows.push(ROW, 1.0) == (True, True)
    assert rows.push(ROW, 2.0) == (False, False)
    assert rows.push(replace(ROW, running=3), 3.0) == (False, True)
    assert rows.push(replace(ROW, running=3, state=ReplicaState.STALLED), 4.0) == (True, True)
    (replica,) = rows.models({})["m"].replicas
    assert (replica.pushed_at_s, replica.running) == (4.0, 3)


def test_in_flight_is_the_sum_over_ingress_replicas() -> None:
    rows = rows_with(ROW)
    assert rows.report("i1", {"m": 2}, 0.0)
    assert rows.report("i2", {"m": 3, "gone": 1}, 0.0)
    assert not rows.report("i2", {"m": 3, "gone": 1, "other": 0}, 0.0)
    row = rows.models({})["m"]
    assert (row.in_flight, row.in_flight_by_ingress) == (5, {"i1": 2, "i2": 3})


def test_who_is_silent_goes() -> None:
    rows = rows_with(ROW)
    rows.report("i1", {"m": 2}, 0.0)
    assert not rows.expire(1.0)
    assert rows.expire(INGRESS_SILENT_S + 1)
    assert rows.models({})["m"].in_flight == 0
    assert rows.expire(REPLICA_SILENT_S + 1)
    assert rows.models({})["m"].replicas == ()
    assert "m" in rows.models({}), "a model scaled to zero stays known"
    assert rows.retire("m")
    assert rows.models({}) == {}


def test_a_model_that_has_a_replica_is_not_forgotten() -> None:
    """Its app was renamed: the farewell of the old app comes when the new one serves already."""
    rows = rows_with(ROW)
    assert not rows.retire("m")
    assert "m" in rows.models({})
    rows.drop(ROW.replica)
    assert rows.retire("m")


def test_a_dump_brings_back_who_was_there_a_moment_ago() -> None:
    dump = rows_with(ROW, replace(ROW, replica="r2")).dump(0.0)
    soon, later, much_later = LiveRows(), LiveRows(), LiveRows()
    soon.load(dump, 5.0)
    assert [r.pushed_at_s for r in soon.models({})["m"].replicas] == [5.0 + GRACE_S, 5.0 + GRACE_S]
    soon.push(ROW, 6.0)
    assert [r.pushed_at_s for r in soon.models({})["m"].replicas] == [6.0, 5.0 + GRACE_S]
    later.load(dump, RESTORED_S + 1)
    assert later.models({})["m"].replicas == ()
    much_later.load(dump, CARD_KEPT_S + 1)
    assert much_later.models({}) == {}


def test_what_is_heard_now_wins_over_a_dump() -> None:
    rows = rows_with(replace(ROW, running=9))
    rows.load(rows_with(ROW).dump(0.0), 1.0)
    assert rows.models({})["m"].replicas[0].running == 9


def test_a_model_keeps_the_time_at_which_it_first_joined() -> None:
    rows, later = LiveRows(), LiveRows()
    assert rows.register(CARD, 100.0)
    rows.register(replace(CARD, weight=2.0), 200.0)
    assert rows.models({})["m"].created_s == 100.0
    later.register(CARD, 300.0)
    later.load(rows.dump(250.0), 300.0)
    assert later.models({})["m"].created_s == 100.0
    rows.retire("m")
    rows.register(CARD, 400.0)
    assert rows.models({})["m"].created_s == 400.0
