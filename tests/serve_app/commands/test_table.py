"""What `fastserve table` and `fastserve status` show, judged on made snapshots."""

import io
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from ray.serve._private.common import DeploymentStatus, DeploymentStatusTrigger
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, DeploymentStatusOverview
from rich.console import Console, RenderableType

from deployments.records.snapshot import (
    Estimate,
    ModelCard,
    ModelRow,
    Quantiles,
    ReplicaRow,
    ReplicaState,
    Snapshot,
)
from policies.promotion.rollout import Candidate, RolloutState, Stage
from serve_app.console.health import problems_of, reasons_of, summarise
from serve_app.console.rendering import duration, snapshot_json, status_page, table_page

NOW_S = time.time()
REPLICA = ReplicaRow(
    "small#1", "small", "http://127.0.0.1:1", ReplicaState.WARM, running=3, pushed_at_s=NOW_S
)
SMALL = ModelRow(
    ModelCard("small", "simulated", "", 4096),
    (REPLICA, replace(REPLICA, replica="small#2", pushed_at_s=NOW_S - 9.0)),
    in_flight=4,
    ttft_s=Quantiles(0.0123, 0.45, 1.0, 0.02, 10),
    requests=12_345,
    error_rate=0.07,
    accuracy={"": Estimate(0.875, 0.85, 0.9, 100), "sums": Estimate(0.5, 0.4, 0.6, 50)},
)
SNAPSHOT = Snapshot("life", 7, NOW_S, {"small": SMALL, "fresh": ModelRow(ModelCard("fresh", "vllm", "", 1))})
CORE: dict[str, Any] = {
    "up_s": 5000.0,
    "ingresses": {"ingress#1": 0.2, "ingress#2": 0.1},
    "keys": {"source": "file", "count": 1, "problem": ""},
    "store": {
        "url": "sqlite:////x",
        "error": "",
        "alarms": [],
        "leads": True,
        "writer": "",
        "unreadable": 0,
        "rows": {"decisions": 1000},
    },
}


def shown(page: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=180)
    console.print(page)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_model_is_one_line_with_what_matters() -> None:
    (line,) = (line for line in shown(table_page(SNAPSHOT, False, False)).splitlines() if "small" in line)
    for part in ("1/2 warm", "0.875 [0.85, 0.90]", "12.3 ms / 450 ms", "12,345", "7 %"):
        assert part in line


def test_what_was_never_measured_is_a_dash_and_in_json_null() -> None:
    (line,) = (line for line in shown(table_page(SNAPSHOT, False, False)).splitlines() if "fresh" in line)
    assert "nan" not in line
    assert line.count("–") >= 4
    assert json.loads(snapshot_json(SNAPSHOT))["models"]["fresh"]["ttft_s"]["p50"] is None


def test_replicas_and_tasks_are_shown_on_demand() -> None:
    page = shown(table_page(SNAPSHOT, True, True))
    assert "9 s ago" in page
    assert "0.500 [0.40, 0.60]" in page
    assert "small#2" not in shown(table_page(SNAPSHOT, False, False))


def test_an_empty_table_says_so() -> None:
    assert "No model has registered yet" in shown(table_page(Snapshot("life", 1, NOW_S), True, True))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.00123, "1.23 ms"), (2.5, "2.5 s"), (600.0, "10 min"), (36_000.0, "10 h")]
)
def test_durations_have_a_fitting_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_healthy_cluster_has_no_problems() -> None:
    status = summarise(replace(SNAPSHOT, models={"small": SMALL}), CORE, {"fastserve": "RUNNING"})
    assert problems_of(status) == []
    page = shown(status_page(status, []))
    assert "1 of 2 replicas usable" in page
    assert "all well" in page


def test_every_problem_is_named() -> None:
    store = {**CORE["store"], "error": "disk full", "alarms": ["It was moved."], "unreadable": 3}
    status = summarise(
        SNAPSHOT,
        {**CORE, "store": store, "keys": {"problem": "Key file 'k' is gone."}},
        {"fastserve": "DEPLOYING"},
    )
    problems = problems_of(status)
    assert problems == [
        "Application 'fastserve' is DEPLOYING.",
        "Model 'fresh' has no usable replica.",
        "No API key is accepted: Key file 'k' is gone.",
        "The store takes no writes: disk full.",
        "3 records of the store open with no key of the key file: learning leaves them out.",
        "It was moved.",
    ]
    assert all(f"! {problem}" in shown(status_page(status, problems)) for problem in problems)


def test_an_application_that_does_not_run_says_why() -> None:
    traceback = "The deployment failed to start 3 times in a row. Error:\nTraceback:\nEngineError: No key.\n"
    model = DeploymentStatusOverview(
        DeploymentStatus.UPDATING, DeploymentStatusTrigger.UNSPECIFIED, {}, traceback
    )
    well = replace(model, status=DeploymentStatus.HEALTHY, message="")
    reasons = reasons_of(
        {
            "fastserve": ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, {"Ingress": well}),
            "model-a": ApplicationStatusOverview(ApplicationStatus.DEPLOYING, "", 0.0, {"Model": model}),
            "model-b": ApplicationStatusOverview(ApplicationStatus.DEPLOY_FAILED, "No app.", 0.0, {}),
            "model-c": ApplicationStatusOverview(ApplicationStatus.DELETING, "", 0.0, {}),
        }
    )
    assert reasons == {"model-a": "EngineError: No key.", "model-b": "No app."}
    status = summarise(replace(SNAPSHOT, models={}), CORE, {"model-a": "DEPLOYING"}, reasons)
    assert problems_of(status) == ["Application 'model-a' is DEPLOYING: EngineError: No key."]


def test_the_active_policy_and_its_candidate_are_shown() -> None:
    rollout = RolloutState(active=7, candidate=Candidate(8, Stage.CANARY, share=0.05))
    status = summarise(replace(SNAPSHOT, rollout=rollout), CORE, {})
    page = shown(status_page(status, []))
    assert "learned@7" in page
    assert "learned@8, canary 5%" in page
