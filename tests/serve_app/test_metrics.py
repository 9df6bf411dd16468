"""A request of known outcome yields exactly these counters; labels stay bounded; every metric is recorded."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.metrics.meter import LABEL_SETS, OTHER, MemoryMeter
from deployments.metrics.names import METRICS, Kind
from deployments.model.pusher import EngineMetrics
from deployments.records.records import DecisionRecord, EngineRecord, OutcomeRecord
from policies.outcome import Outcome, Status
from serve_app.metrics import IngressMetrics, requested_label

CODE = Path(__file__).parents[2]
RECORDED_BY = {"count", "observe", "gauge"}  # the methods of a Meter


def recorded_names() -> Iterator[str]:
    """The metric that each call of a Meter in the code names."""
    for layer in ("serve_app", "deployments"):
        for path in (CODE / layer).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                first = node.args[0] if node.args else None
                named = isinstance(first, ast.Constant) and isinstance(first.value, str)
                if node.func.attr in RECORDED_BY and named and re.match(r"fastserve_|gen_ai_", first.value):
                    yield first.value


def decision(policy: str = "learned@7", propensity: float = 0.9) -> DecisionRecord:
    return DecisionRecord(
        "d", 0.0, "k", "auto", "", "m", policy, propensity, 0.02, 0, probabilities=(0.1, 0.9), decide_s=0.0001
    )


def test_a_request_of_known_outcome_yields_exactly_these_values() -> None:
    meter = MemoryMeter()
    metrics = IngressMetrics(meter)
    metrics.decided(decision())
    metrics.fell_back("m", "timeout")
    measured = Outcome(Status.OK, 0.1, 0.02, 1.5, prompt_tokens=30, output_tokens=7, cost_usd=0.25)
    metrics.finished(OutcomeRecord("d", 0.0, "n", "r", measured, ingress_s=0.001), "auto", "chat")
    names = ("chat", "auto", "n")
    assert {name: values for name, values in meter.values.items() if values} == {
        "fastserve_dispatches": {("auto", "m", "learned"): 1.0},
        "fastserve_fallbacks": {("m", "timeout"): 1.0},
        "fastserve_requests": {(*names, "ok", ""): 1.0},
        "fastserve_cost": {("n",): 0.25},
    }
    assert {name: values for name, values in meter.observed.items() if values} == {
        "fastserve_decision_time": {("learned",): [0.0001]},
        "fastserve_ingress_time": {("n",): [0.001]},
        "gen_ai_server_request_duration": {(*names, ""): [1.5]},
        "gen_ai_server_time_to_first_token": {names: [0.1]},
        "gen_ai_server_time_per_output_token": {names: [0.02]},
        "gen_ai_client_token_usage": {(*names, "input"): [30], (*names, "output"): [7]},
    }


def test_a_failure_has_its_error_type_and_no_times_it_never_had() -> None:
    meter = MemoryMeter()
    failed = Outcome(Status.FAILED, e2e_s=3.0, error_code="upstream_timeout")
    IngressMetrics(meter).finished(OutcomeRecord("d", 0.0, "m", "r", failed), "m", "chat")
    assert meter.value("fastserve_requests", "chat", "m", "m", "failed", "upstream_timeout") == 1
    assert list(meter.observed["gen_ai_server_request_duration"]) == [("chat", "m", "m", "upstream_timeout")]
    assert "gen_ai_server_time_to_first_token" not in meter.observed


def test_exploration_and_fallback_policies_are_counted() -> None:
    meter = MemoryMeter()
    metrics = IngressMetrics(meter)
    metrics.decided(decision(propensity=0.1))
    metrics.decided(decision(policy="formula;fallback=error"))
    assert meter.value("fastserve_explorations", "m") == 1
    assert meter.value("fastserve_degraded", "formula;fallback=error") == 1


def test_an_engine_tells_queue_and_engine_time() -> None:
    meter = MemoryMeter()
    EngineMetrics(meter, "m").finished(EngineRecord("d", queue_s=0.2, e2e_s=1.0, cached_tokens=64))
    assert meter.observed["fastserve_queue_time"] == {("m",): [0.2]}
    assert meter.observed["fastserve_engine_time"] == {("m",): [1.0]}
    assert meter.value("fastserve_cached_tokens", "m") == 64


def test_versions_make_no_new_series() -> None:
    meter = MemoryMeter()
    metrics = IngressMetrics(meter)
    for version in range(9):
        metrics.decided(decision(policy=f"learned@{version};sticky"))
    assert meter.values["fastserve_dispatches"] == {("auto", "m", "learned;sticky"): 9.0}


def test_a_model_whose_name_begins_with_auto_is_counted_under_its_own() -> None:
    assert requested_label("automat", "automat") == "automat"
    assert requested_label("autopilot", "m") == "other"


def test_what_callers_write_makes_no_new_series() -> None:
    meter = MemoryMeter()
    metrics = IngressMetrics(meter)
    for i in range(1000):
        metrics.refused(f"nonsense-{i}", "chat", "model_not_found")
        metrics.refused(f"auto:nonsense-{i}", "chat", "model_not_found")
    assert len(meter.values["fastserve_requests"]) == 2
    assert requested_label("auto:customer-service", "m") == "auto:customer-service"


def test_series_are_bounded_whatever_comes() -> None:
    meter = MemoryMeter()
    for i in range(LABEL_SETS + 100):
        meter.count("fastserve_retries", ("m", f"reason-{i}"))
    assert len(meter.values["fastserve_retries"]) == LABEL_SETS + 1
    assert meter.value("fastserve_retries", OTHER, OTHER) == 100


def test_unknown_metrics_and_wrong_labels_are_errors() -> None:
    meter = MemoryMeter()
    with pytest.raises(KeyError):
        meter.count("nonsense")
    with pytest.raises(ValueError, match="labels"):
        meter.count("fastserve_retries", ("m",))


def test_the_code_records_exactly_what_is_declared() -> None:
    assert set(recorded_names()) == {metric.name for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_well_formed(metric: object) -> None:
    from deployments.metrics.names import Metric

    assert isinstance(metric, Metric)
    assert metric.unit
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert not set(metric.labels) & {"deployment", "replica", "application", "route"}, "Serve's own"


def test_a_key_is_counted_by_its_name() -> None:
    meter = MemoryMeter()
    metrics = IngressMetrics(meter)
    metrics.charged("web", Outcome(Status.OK, prompt_tokens=30, output_tokens=7, cost_usd=0.25))
    metrics.refused("nonsense", "chat", "rate_limited", "web")
    metrics.refused("nonsense", "chat", "invalid_api_key")
    assert meter.values["fastserve_key_requests"] == {("web", "ok"): 1.0, ("web", "rejected"): 1.0}
    assert meter.values["fastserve_key_tokens"] == {("web", "input"): 30.0, ("web", "output"): 7.0}
    assert meter.value("fastserve_key_cost", "web") == 0.25
