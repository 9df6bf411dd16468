"""Alert rules for Prometheus. docs/operations.md has a section of each name: what it means, what to do."""

import re
from dataclasses import dataclass
from typing import Any, Final

from serve_app.monitoring.query import grew, quantile, rate, ratio, share, value

RUNBOOKS: Final = "docs/operations.md"
_WINDOW: Final = "5m"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. `lasting`: how long its expression must hold; `summary` names labels as Prometheus does."""

    name: str
    severity: str  # critical: users are refused or lose something; warning: look today; info: for the record
    expr: str
    lasting: str
    summary: str

    @property
    def anchor(self) -> str:
        """Of its section in the page of runbooks."""
        return self.name.lower()

    @property
    def told(self) -> str:
        """The summary for a page, where there is no value and no label yet."""
        return re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", self.summary)


_WARM: Final = ('state="warm"',)
_WARM_OF = value("fastserve_replicas", ("model",), _WARM)
_SERVED = value("fastserve_served", ("model",), how="max")
_ASLEEP = value("fastserve_asleep", ("model",), how="max") + " == 1"  # on purpose: it wakes when asked for
_REQUESTS = rate("fastserve_requests", window=_WINDOW)


ALERTS: Final = (
    Alert(
        "FastServeNotSeen",
        "critical",
        "absent(ray_fastserve_store_available)",
        "2m",
        "Prometheus sees no FastServe: the pool is down, or its metrics are not scraped.",
    ),
    Alert(
        "FastServeNoModel",
        "critical",
        value("fastserve_replicas", where=_WARM) + " == 0 unless " + value("fastserve_asleep") + " > 0",
        "1m",
        "No model has a warm replica: every request is refused.",
    ),
    Alert(
        "FastServeModelDown",
        "warning",
        f"{_WARM_OF} == 0 and {_SERVED} == 1 unless {_ASLEEP}",
        "5m",
        "Model {{ $labels.model }} is in the pool and has no warm replica.",
    ),
    Alert(
        "FastServeNoKeys",
        "critical",
        value("fastserve_keys", how="min") + " == 0",
        "1m",
        "No API key is accepted: the key file cannot be used.",
    ),
    Alert(
        "FastServeErrors",
        "critical",
        share(rate("fastserve_requests", where=('status="failed"',), window=_WINDOW), _REQUESTS) + " > 0.05",
        "5m",
        "{{ $value | humanizePercentage }} of the requests fail.",
    ),
    Alert(
        "FastServeFallbacks",
        "warning",
        share(rate("fastserve_fallbacks", window=_WINDOW), _REQUESTS) + " > 0.05",
        "10m",
        "{{ $value | humanizePercentage }} of the requests leave their model for another.",
    ),
    Alert(
        "FastServeRetries",
        "warning",
        share(rate("fastserve_retries", window=_WINDOW), _REQUESTS) + " > 0.05",
        "10m",
        "{{ $value | humanizePercentage }} of the requests are tried again.",
    ),
    Alert(
        "FastServeSlowFirstToken",
        "warning",
        quantile(0.95, "gen_ai_server_time_to_first_token", ("gen_ai_response_model",), window=_WINDOW)
        + " > 10",
        "10m",
        "First tokens of {{ $labels.gen_ai_response_model }} take {{ $value | humanizeDuration }} (p95).",
    ),
    Alert(
        "FastServeQueue",
        "warning",
        " or ".join(
            f"{value(name, ('model',))} > {value('fastserve_slots', ('model',))} > 0"
            for name in ("fastserve_waiting", "fastserve_queued")
        ),
        "10m",
        "More requests wait for {{ $labels.model }} than it works on.",
    ),
    Alert(
        "FastServeCacheFull",
        "warning",
        value("fastserve_cache_use", ("model",), how="max") + " > 0.95",
        "10m",
        "A replica of {{ $labels.model }} has no room left in its KV cache.",
    ),
    Alert(
        "FastServeTableSilent",
        "critical",
        value("fastserve_snapshot_age", how="max") + " > 5",
        "1m",
        "An ingress dispatches by a snapshot that is {{ $value | humanizeDuration }} old.",
    ),
    Alert(
        "FastServeStoreAway",
        "critical",
        value("fastserve_store_available", how="min") + " == 0",
        "1m",
        "The store takes no writes: records wait, votes are refused.",
    ),
    Alert(
        "FastServeStoreAlarm",
        "warning",
        value("fastserve_store_alarms", how="max") + " > 0",
        "0m",
        "The store has something for an operator to look at.",
    ),
    Alert(
        "FastServeRecordsWait",
        "warning",
        value("fastserve_table_lag", how="max") + " > 60",
        "2m",
        "Decisions and outcomes have waited {{ $value | humanizeDuration }} for the store.",
    ),
    Alert(
        "FastServeRecordsLost",
        "warning",
        grew("fastserve_table_dropped", ("kind",), "15m"),
        "0m",
        "Records of kind {{ $labels.kind }} were lost.",
    ),
    Alert(
        "FastServeStandsBy",
        "info",
        value("fastserve_store_writer", how="max") + " == 0",
        "10m",
        "Another cluster writes policy state to this store; this one waits.",
    ),
    Alert(
        "FastServeLesserMode",
        "warning",
        grew("fastserve_degraded", ("mode",), "10m"),
        "15m",
        "Something works in a lesser mode again and again: {{ $labels.mode }}.",
    ),
    Alert(
        "FastServeBackgroundFails",
        "warning",
        rate("fastserve_background_failures", ("task",), window="10m") + " > 0.05",
        "10m",
        "Background work keeps failing: {{ $labels.task }}.",
    ),
    Alert(
        "FastServeSlowDecisions",
        "warning",
        quantile(0.99, "fastserve_decision_time", window=_WINDOW) + " > 0.02",
        "10m",
        "p99 of the time of a decision is {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "FastServeRolledBack",
        "info",
        grew("fastserve_policy_events", (), "1h", ('kind="rolled_back"',)),
        "0m",
        "A policy version was worse and has been taken back.",
    ),
    Alert(
        "FastServeKeyRefused",
        "info",
        ratio(
            rate("fastserve_key_requests", ("key",), ('status="rejected"',), _WINDOW),
            rate("fastserve_key_requests", ("key",), window=_WINDOW),
        )
        + " > 0.5",
        "10m",
        "Most requests of key {{ $labels.key }} are refused: a limit, or a client that asks wrongly.",
    ),
)


def rules(runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """The content of a rules file. `runbooks` is where the page of runbooks can be read."""
    return {
        "groups": [
            {
                "name": "fastserve",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expr,
                        "for": alert.lasting,
                        "labels": {"severity": alert.severity},
                        "annotations": {
                            "summary": alert.summary,
                            "runbook_url": f"{runbooks}#{alert.anchor}",
                        },
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }
