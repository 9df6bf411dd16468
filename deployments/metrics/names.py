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

    @property
    def exported(self) -> str:
        """The name at Prometheus; a histogram's series add `_bucket`, `_sum` and `_count` to it."""
        return f"ray_{self.name}" + ("_total" if self.kind is Kind.COUNTER else "")

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series at Prometheus."""
        if self.kind is not Kind.HISTOGRAM:
            return (self.exported,)
        return tuple(f"{self.exported}_{part}" for part in ("bucket", "sum", "count"))


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
    Metric(
        "fastserve_predicted_cached_share",
        Kind.HISTOGRAM,
        "1",
        ("model",),
        "share of a prompt predicted to be cached at its replica, where a model has several",
        (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    ),
    Metric("fastserve_cost", Kind.COUNTER, "USD", ("model",), "cost of finished requests"),
    Metric(
        "fastserve_baseline_cost",
        Kind.COUNTER,
        "USD",
        ("model",),
        "cost of the same tokens at the prices of `baseline_model`; less the cost it is the saving",
    ),
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
        "fastserve_hedges",
        Kind.COUNTER,
        "tries",
        ("model", "result"),
        "tries beside one that was late; `result` is won, lost, failed or left (nobody waited any more)",
    ),
    Metric(
        "fastserve_hedged_tokens",
        Kind.COUNTER,
        "tokens",
        ("model",),
        "tokens of tries that another one of their request outran, as estimated; no key is charged for them",
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
    Metric(
        "fastserve_key_requests",
        Kind.COUNTER,
        "requests",
        ("key", "status"),
        "finished requests by the name of their API key; those without a key that holds are left out",
    ),
    Metric(
        "fastserve_key_tokens",
        Kind.COUNTER,
        "tokens",
        ("key", "kind"),
        "tokens by the name of the API key; `kind` is input or output",
    ),
    Metric("fastserve_key_cost", Kind.COUNTER, "USD", ("key",), "cost by the name of the API key"),
    Metric(
        "fastserve_queued",
        Kind.GAUGE,
        "requests",
        ("model", "priority"),
        "requests that wait in this process for a slot of the model",
    ),
    Metric(
        "fastserve_queued_time",
        Kind.HISTOGRAM,
        "s",
        ("model", "priority"),
        "part of a request's latency spent waiting in the ingress for a slot; of those that had to",
        _SECONDS,
    ),
    Metric(
        "fastserve_shed",
        Kind.COUNTER,
        "requests",
        ("model", "priority", "reason"),
        "requests that got no slot: `full`, `deadline` (it would have passed), `expired`, `made room`",
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
    Metric(
        "fastserve_replicas",
        Kind.GAUGE,
        "replicas",
        ("model", "state"),
        "replicas that the table hears of; `state` is warm, cold, draining or stalled",
    ),
    Metric("fastserve_served", Kind.GAUGE, "1", ("model",), "1 while the model is in the pool, else 0"),
    Metric(
        "fastserve_asleep", Kind.GAUGE, "1", ("model",), "1 while it has no replica and wakes when asked for"
    ),
    Metric("fastserve_running", Kind.GAUGE, "requests", ("model",), "requests that engines work on"),
    Metric("fastserve_waiting", Kind.GAUGE, "requests", ("model",), "requests that wait inside engines"),
    Metric("fastserve_slots", Kind.GAUGE, "requests", ("model",), "requests that engines can take at once"),
    Metric(
        "fastserve_cache_use",
        Kind.GAUGE,
        "1",
        ("model",),
        "share of the KV cache in use, in the fullest replica",
    ),
    Metric(
        "fastserve_accuracy",
        Kind.GAUGE,
        "1",
        ("model", "task"),
        "mean score of graded answers, 0 to 1; `task` is `all` over all tasks",
    ),
    Metric(
        "fastserve_policy_version",
        Kind.GAUGE,
        "1",
        ("stage",),
        "policy version; `stage` is active (0: the priced rule) or candidate (0: none)",
    ),
    Metric(
        "fastserve_candidate_share", Kind.GAUGE, "1", (), "share of requests that a candidate policy decides"
    ),
    Metric(
        "fastserve_policy_events",
        Kind.COUNTER,
        "events",
        ("kind",),
        "steps in the life of policy versions, such as trained, verdict, promoted or rolled_back",
    ),
    Metric(
        "fastserve_graded_pairs",
        Kind.COUNTER,
        "pairs",
        ("result",),
        "live prompts that were graded for both versions of a canary, failed to be, or waited too long",
    ),
    Metric("fastserve_votes", Kind.COUNTER, "votes", ("metric",), "votes on answers that were stored"),
    Metric(
        "fastserve_vote_scores",
        Kind.COUNTER,
        "1",
        ("metric",),
        "sum of the scores of those votes, each 0 to 1; over the votes it is their mean",
    ),
    Metric("fastserve_table_versions", Kind.COUNTER, "snapshots", (), "snapshots that the table published"),
    Metric(
        "fastserve_keys",
        Kind.GAUGE,
        "keys",
        (),
        "API keys that hold; 0 while the key file cannot be used: then every request is answered 503",
    ),
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
