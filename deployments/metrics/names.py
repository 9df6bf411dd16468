"""Every metric that FastServe exports: name, kind, unit, labels, meaning. docs/metrics.md shows this list."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Kinds of Prometheus metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Ray exports it as `ray_<name>`, a counter as `ray_<name>_total`."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


def _buckets(first: float, factor: float, count: int) -> tuple[float, ...]:
    return tuple(float(f"{first * factor**i:.3g}") for i in range(count))


_FINE = _buckets(0.000_01, 2.0, 14)  # 10 us to 82 ms
_SECONDS = _buckets(0.005, 2.0, 16)  # 5 ms to 164 s
_TOKEN = _buckets(0.001, 1.6, 16)  # 1 ms to 1.2 s
_TOKENS = _buckets(1.0, 4.0, 11)  # 1 to about a million
_GEN_AI = ("gen_ai_operation_name", "gen_ai_request_model", "gen_ai_response_model")

METRICS: Final = (
    Metric(
        "fastserve_requests",
        Kind.COUNTER,
        "requests",
        ("operation", "requested", "model", "status", "error_code"),
        "finished requests; `status` is ok, failed, rejected or cancelled",
    ),
    Metric(
        "fastserve_dispatches",
        Kind.COUNTER,
        "decisions",
        ("requested", "model", "policy"),
        "decisions by the model they chose and who decided: the dispatch share",
    ),
    Metric(
        "fastserve_explorations",
        Kind.COUNTER,
        "decisions",
        ("model",),
        "decisions for a model that was not the most probable one",
    ),
    Metric(
        "fastserve_decision_time",
        Kind.HISTOGRAM,
        "s",
        ("policy",),
        "time that a decision took, features included",
        _FINE,
    ),
    Metric(
        "fastserve_ingress_time",
        Kind.HISTOGRAM,
        "s",
        ("model",),
        "part of a request's latency spent in the ingress itself",
        _buckets(0.000_1, 2.0, 14),
    ),
    Metric(
        "fastserve_queue_time",
        Kind.HISTOGRAM,
        "s",
        ("model",),
        "part of a request's latency spent waiting inside the engine",
        _buckets(0.000_1, 2.5, 16),
    ),
    Metric(
        "fastserve_engine_time",
        Kind.HISTOGRAM,
        "s",
        ("model",),
        "part of a request's latency spent in the engine, waiting included",
        _SECONDS,
    ),
    Metric(
        "gen_ai_server_request_duration",
        Kind.HISTOGRAM,
        "s",
        (*_GEN_AI, "error_type"),
        "OpenTelemetry `gen_ai.server.request.duration`: first byte in to last byte out",
        _SECONDS,
    ),
    Metric(
        "gen_ai_server_time_to_first_token",
        Kind.HISTOGRAM,
        "s",
        _GEN_AI,
        "OpenTelemetry `gen_ai.server.time_to_first_token`",
        _SECONDS,
    ),
    Metric(
        "gen_ai_server_time_per_output_token",
        Kind.HISTOGRAM,
        "s",
        _GEN_AI,
        "OpenTelemetry `gen_ai.server.time_per_output_token`: mean after the first",
        _TOKEN,
    ),
    Metric(
        "gen_ai_client_token_usage",
        Kind.HISTOGRAM,
        "tokens",
        (*_GEN_AI, "gen_ai_token_type"),
        "OpenTelemetry `gen_ai.client.token.usage`; `gen_ai_token_type` is input or output",
        _TOKENS,
    ),
    Metric(
        "fastserve_cached_tokens", Kind.COUNTER, "tokens", ("model",), "prompt tokens from the prefix cache"
    ),
    Metric("fastserve_cost", Kind.COUNTER, "USD", ("model",), "cost of finished requests"),
    Metric(
        "fastserve_fallbacks",
        Kind.COUNTER,
        "fallbacks",
        ("model", "reason"),
        "requests that left a model for the next best one, by the model left and why",
    ),
    Metric(
        "fastserve_retries",
        Kind.COUNTER,
        "retries",
        ("model", "reason"),
        "tries beyond the first on the same model, and why",
    ),
    Metric(
        "fastserve_degraded",
        Kind.COUNTER,
        "events",
        ("mode",),
        "times that something worked in a lesser mode, such as a fallback policy or storage that is away",
    ),
    Metric(
        "fastserve_background_failures",
        Kind.COUNTER,
        "failures",
        ("task",),
        "turns of background work that failed and are tried again, such as a report to a table that is away",
    ),
    Metric("fastserve_in_flight", Kind.GAUGE, "requests", ("model",), "requests of this process under way"),
    Metric(
        "fastserve_snapshot_age", Kind.GAUGE, "s", (), "age of the table's snapshot that is dispatched by"
    ),
    Metric(
        "fastserve_table_lag", Kind.GAUGE, "s", (), "age of the oldest record that the table has not stored"
    ),
    Metric("fastserve_table_unsent", Kind.GAUGE, "records", (), "records that the table has not stored yet"),
    Metric("fastserve_table_dropped", Kind.COUNTER, "records", ("kind",), "records lost for want of room"),
    Metric(
        "fastserve_table_requests",
        Kind.GAUGE,
        "requests",
        ("model", "status"),
        "outcomes that are stored, ever: survives every restart",
    ),
    Metric("fastserve_table_versions", Kind.COUNTER, "snapshots", (), "snapshots that the table published"),
    Metric("fastserve_store_available", Kind.GAUGE, "1", (), "1 while the durable store takes writes"),
    Metric(
        "fastserve_store_writer",
        Kind.GAUGE,
        "1",
        (),
        "1 while this cluster writes policy state, 0 while another one on the same store does",
    ),
    Metric(
        "fastserve_store_alarms",
        Kind.GAUGE,
        "alarms",
        (),
        "what an operator must look at; `fastserve status`",
    ),
)

BY_NAME: Final = {metric.name: metric for metric in METRICS}


def markdown() -> str:
    """The list as a Markdown table, as docs/metrics.md holds it."""
    lines = ["| metric | kind | unit | labels | meaning |", "| --- | --- | --- | --- | --- |"]
    for metric in METRICS:
        name = f"ray_{metric.name}" + ("_total" if metric.kind is Kind.COUNTER else "")
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{name}` | {metric.kind} | {metric.unit} | {labels} | {metric.meaning} |")
    return "\n".join(lines)
