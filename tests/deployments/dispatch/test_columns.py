"""From a snapshot to columns: what counts as usable, what is measured, what is kept."""

import math

import numpy as np

from deployments.dispatch.columns import SILENT_S, STALE_S, Observer
from deployments.records.snapshot import ReplicaState
from policies.latency.model import LatencyModel
from policies.observation import MODEL_COLUMN
from policies.prompt.style import STYLE_SIZE
from tests.deployments.pools import model, snapshot

LATENCY = LatencyModel()


def test_models_come_in_alphabetical_order() -> None:
    columns = Observer().columns(snapshot(model("zeta"), model("alpha")), 0.0, LATENCY)
    assert columns.models == ("alpha", "zeta")
    assert columns.index == {"alpha": 0, "zeta": 1}


def test_an_evaluation_replaces_the_prior() -> None:
    columns = Observer().columns(
        snapshot(model("a", accuracy=0.4), model("b", accuracy=0.4, evaluated=0.7)), 0.0, LATENCY
    )
    assert columns.rows[:, MODEL_COLUMN["accuracy"]].tolist() == [0.4, 0.7]
    assert math.isclose(columns.rows[1, MODEL_COLUMN["accuracy_std"]], 0.1 / 3.92)
    assert columns.rows[0, MODEL_COLUMN["accuracy_std"]] > columns.rows[1, MODEL_COLUMN["accuracy_std"]]


def test_only_warm_replicas_heard_of_lately_are_usable() -> None:
    columns = Observer().columns(
        snapshot(
            model("cold", state=ReplicaState.COLD),
            model("draining", state=ReplicaState.DRAINING),
            model("fine", replicas=2),
            model("silent", silent_s=SILENT_S + 0.1),
            model("stalled", state=ReplicaState.STALLED),
        ),
        0.0,
        LATENCY,
    )
    assert columns.usable.tolist() == [False, False, True, False, False]
    assert columns.rows[2, MODEL_COLUMN["replicas"]] == 2
    assert columns.rows[2, MODEL_COLUMN["slots"]] == 16
    assert columns.rows[0, MODEL_COLUMN["cold"]] == 1.0


def test_an_ejected_replica_is_not_used() -> None:
    ejected: set[str] = set()
    observer = Observer(lambda: frozenset(ejected))
    seen = snapshot(model("a", replicas=2), model("b"))
    assert observer.columns(seen, 0.0, LATENCY).usable.tolist() == [True, True]
    ejected.update({"a#0", "b#0"})
    columns = observer.columns(seen, 0.0, LATENCY)
    assert columns.usable.tolist() == [True, False]
    assert columns.rows[0, MODEL_COLUMN["replicas"]] == 1


def test_a_replica_falls_silent_while_the_snapshot_ages() -> None:
    observer, seen = Observer(), snapshot(model("a", silent_s=1.0), model("b"))
    assert observer.columns(seen, 0.4, LATENCY).usable.tolist() == [True, True]
    assert observer.columns(seen, 0.6, LATENCY).usable.tolist() == [False, True]


def test_a_silent_table_ejects_nobody() -> None:
    observer, seen = Observer(), snapshot(model("a"), model("b", silent_s=9.0))
    for age_s in (STALE_S + 0.1, 60.0, math.inf):
        assert observer.columns(seen, age_s, LATENCY).usable.tolist() == [True, False]


def test_columns_are_made_once_a_snapshot() -> None:
    observer, seen = Observer(), snapshot(model("a"))
    first = observer.columns(seen, 0.0, LATENCY)
    assert observer.columns(seen, 0.3, LATENCY) is first
    assert observer.columns(snapshot(model("a"), version=2), 0.0, LATENCY) is not first
    again = observer.columns(seen, 5.0, LATENCY)
    assert observer.columns(seen, 6.0, LATENCY) is again
    observer.forget()
    assert observer.columns(seen, 6.0, LATENCY) is not again


def test_an_empty_pool_gives_empty_columns() -> None:
    columns = Observer().columns(snapshot(), 0.0, LATENCY)
    assert columns.models == ()
    assert columns.rows.shape == (0, len(MODEL_COLUMN))
    style = np.zeros(STYLE_SIZE, dtype=np.float32)
    assert columns.latency.predict(np.zeros(8), style, np.zeros(0), None).e2e_s.shape == (0,)


def test_prices_are_those_of_the_cards() -> None:
    columns = Observer().columns(snapshot(model("a", usd=2.0), model("free")), 0.0, LATENCY)
    assert columns.priced
    assert math.isclose(columns.completion_usd_per_mtok[0], 2.0)
    assert math.isclose(columns.cheapest_usd_per_mtok, 2.0)
    assert not Observer().columns(snapshot(model("free")), 0.0, LATENCY).priced
