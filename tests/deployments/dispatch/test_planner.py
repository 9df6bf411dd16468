from dataclasses import replace

import pytest

from deployments.dispatch.masks import NoModelError, Reason
from deployments.records.snapshot import ModelRow
from policies.scaling import Planned
from tests.deployments.dispatch.dispatchers import ask, dispatcher
from tests.deployments.pools import model, snapshot

LOAD_S = 20.0


def asleep(name: str, accuracy: float = 0.5, ready_in_s: float = LOAD_S) -> ModelRow:
    """A model without replicas that is loaded when it is asked for."""
    return replace(model(name, accuracy=accuracy), replicas=(), ready_in_s=ready_in_s)


def test_what_is_planned_adds_up_to_the_requests() -> None:
    made = dispatcher(beta=1.0)
    for number in range(20):
        made.dispatch(ask(f"d{number}"))
    totals = made.planner.totals
    assert sum(one.requests for one in totals.values()) == pytest.approx(20.0, rel=0.01)
    assert sum(one.named for one in totals.values()) == 0.0
    for one in totals.values():
        assert 0.0 < one.ttft_s < one.service_s


def test_others_answer_for_a_model_that_sleeps_and_its_share_is_planned() -> None:
    made = dispatcher(model("small", accuracy=0.2), asleep("best", accuracy=0.9), beta=20.0)
    for number in range(40):
        choice = made.dispatch(ask(f"d{number}"))
        assert choice.decision.model == "small"
        assert choice.reasons == {"best": Reason.ASLEEP}
    assert made.planner.totals["best"].requests > 10.0, "as if it were awake"
    assert made.planner.totals["small"].requests == pytest.approx(40.0)


def test_the_load_is_in_the_predicted_latency() -> None:
    made = dispatcher(model("small"), asleep("best"))
    small, best = sorted(made.explain(ask()).candidates(), key=lambda one: str(one["model"]), reverse=True)
    assert float(best["ttft_s"]) == pytest.approx(float(small["ttft_s"]) + LOAD_S)
    assert not made.planner.totals, "to explain plans nothing"


def test_a_name_wakes_a_model() -> None:
    made = dispatcher(model("small"), asleep("best"))
    with pytest.raises(NoModelError) as raised:
        made.dispatch(ask(requested="best"))
    assert (raised.value.wakes, raised.value.ready_in_s) == ("best", LOAD_S)
    assert made.planner.totals == {"best": Planned(named=1.0)}


def test_its_substitute_answers_while_it_wakes() -> None:
    named = asleep("best")
    named = replace(named, card=replace(named.card, fallback=("small",)))
    made = dispatcher(model("small"), named)
    assert made.dispatch(ask(requested="best")).decision.model == "small"
    assert (made.planner.totals["best"].named, made.planner.totals["best"].requests) == (1.0, 1.0)
    assert "small" not in made.planner.totals


def test_where_all_sleep_the_one_that_is_worth_its_load_wakes() -> None:
    made = dispatcher(asleep("near", 0.5, ready_in_s=2.0), asleep("far", 0.5, ready_in_s=200.0))
    with pytest.raises(NoModelError) as raised:
        made.dispatch(ask())
    assert (raised.value.wakes, raised.value.ready_in_s) == ("near", 2.0)


def test_the_priced_rule_says_itself_which_one_wakes() -> None:
    made = dispatcher(asleep("near"), asleep("far"))
    with pytest.raises(NoModelError):
        made.dispatch(ask())
    assert not made.host.fallbacks


def test_a_request_for_which_no_model_is_there_has_a_record_of_the_one_it_missed() -> None:
    made = dispatcher(asleep("near", 0.5, ready_in_s=2.0), asleep("far", 0.5, ready_in_s=200.0))
    record = made.unserved(ask())
    assert (record.model, record.policy, record.propensity) == ("near", "none", 0.0)
    assert record.is_dispatched
    assert (record.assigned, record.mask) == (0, (False, False))
    assert not made.planner.totals


def test_a_model_that_is_down_does_not_count_as_asleep() -> None:
    made = dispatcher(model("small"), replace(model("down"), replicas=()))
    assert made.dispatch(ask()).reasons == {"down": Reason.UNHEALTHY}
    assert made.view.snapshot == snapshot(*made.view.snapshot.models.values())
