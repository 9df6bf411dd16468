from dataclasses import replace

from deployments.records.snapshot import ModelRow, ReplicaState
from deployments.scaling.demand import ASKED_S, Demand
from deployments.scaling.settings import PlanSettings
from policies.scaling import FIRST_LOAD_S, Now, Planned
from tests.deployments.pools import model

SETTINGS = PlanSettings(target_ttft_s=1.0, idle_s=60.0)
AWAKE = model("org/m", slots=4)
ASLEEP = replace(AWAKE, replicas=())


def wanted(demand: Demand, row: ModelRow | None, now_s: float, running: int = 0, least: int = 0) -> int:
    return demand.wanted("model-org--m", SETTINGS, Now(running, least, 5), row, now_s)


def test_a_model_that_the_table_does_not_know_is_loaded_once() -> None:
    demand = Demand()
    assert wanted(demand, None, 0.0) == 1
    assert wanted(demand, AWAKE, 10.0, running=1) == 1, "it stays for a while"
    assert wanted(demand, AWAKE, 10.0 + SETTINGS.idle_s, running=1) == 0


def test_a_load_that_has_begun_is_not_called_off() -> None:
    demand = Demand()
    wanted(demand, None, 0.0)
    assert wanted(demand, model("org/m", state=ReplicaState.COLD), 100.0) == 1
    assert wanted(demand, ASLEEP, 101.0) == 0


def test_what_was_planned_before_the_first_report_is_no_news() -> None:
    demand = Demand()
    wanted(demand, ASLEEP, 0.0)
    demand.report("i", {"org/m": Planned(50.0, 1.0, 5.0, 50.0)}, 1.0)
    assert wanted(demand, ASLEEP, 1.0) == 0
    demand.report("i", {"org/m": Planned(50.0, 2.0, 5.0, 50.0)}, 2.0)
    assert wanted(demand, ASLEEP, 2.0) == 1
    assert wanted(demand, ASLEEP, 2.0 + SETTINGS.idle_s) == 0


def test_all_ingress_replicas_count_and_the_requests_under_way() -> None:
    demand = Demand()
    wanted(demand, AWAKE, 0.0, running=1)
    for second in range(60):
        for ingress in ("a", "b"):
            planned = Planned(6.0 * second, 0.0, 0.6 * second, 6.0 * second)
            demand.report(ingress, {"org/m": planned}, float(second))
    assert wanted(demand, AWAKE, 60.0, running=1) >= 4
    assert wanted(demand, replace(AWAKE, in_flight=3), 600.0, running=1) == 1


def test_a_row_says_when_a_model_that_sleeps_would_serve() -> None:
    demand = Demand()
    assert demand.told(ASLEEP, 0.0).ready_in_s == 0.0, "nobody scales it: it is down"
    wanted(demand, ASLEEP, 0.0)
    assert demand.told(ASLEEP, 0.0).ready_in_s == FIRST_LOAD_S
    assert demand.told(AWAKE, 0.0).ready_in_s == 0.0
    starting = model("org/m", state=ReplicaState.COLD)
    assert demand.told(starting, 1.0).ready_in_s > 0.0
    assert demand.told(ASLEEP, ASKED_S + 1.0).ready_in_s == 0.0, "Serve asks no more: nothing would wake it"
    wanted(demand, ASLEEP, 2.0, least=1)
    assert demand.told(ASLEEP, 2.0).ready_in_s == 0.0, "it may not sleep: it is down"
    wanted(demand, ASLEEP, 3.0)
    demand.forget("org/m")
    assert demand.told(ASLEEP, 3.0).ready_in_s == 0.0
