"""Is the pool well, how fast does it answer, and what goes wrong: the first dashboard."""

from typing import Final

from serve_app.monitoring.panels import Dashboard, Row, chart, number
from serve_app.monitoring.query import quantile, rate, share, value
from serve_app.monitoring.series import DURATION, FIRST, HOUR, percentiles

_REQUESTS: Final = rate("fastserve_requests")
_FAILED: Final = rate("fastserve_requests", where=('status="failed"',))

OVERVIEW: Final = Dashboard(
    "fastserve-overview",
    "FastServe: overview",
    "Is the pool well, how fast does it answer, and what goes wrong.",
    (
        Row(
            "Now",
            (
                number("Requests", "reqps", "Finished requests per second.", _REQUESTS),
                number(
                    "Failed",
                    "percentunit",
                    "Share of the requests; not those refused.",
                    share(_FAILED, _REQUESTS),
                ),
                number("First token, p95", "s", "Time to first token, streams only.", quantile(0.95, FIRST)),
                number("In flight", "short", "Requests under way.", value("fastserve_in_flight")),
                number(
                    "Warm replicas",
                    "short",
                    "Replicas that take requests.",
                    value("fastserve_replicas", where=('state="warm"',)),
                ),
                number(
                    "Cost an hour",
                    "currencyUSD",
                    "At the present rate, by the models' prices.",
                    HOUR + rate("fastserve_cost"),
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                chart(
                    "Requests by outcome",
                    "reqps",
                    "`rejected` is what callers asked wrongly or too often, `failed` is the pool's.",
                    (rate("fastserve_requests", ("status",)), "{{status}}"),
                    stacked=True,
                ),
                chart(
                    "Requests by model",
                    "reqps",
                    "By the model that answered.",
                    (rate("fastserve_requests", ("model",), ('model!=""',)), "{{model}}"),
                    stacked=True,
                ),
                chart(
                    "Errors",
                    "reqps",
                    "By the code that callers saw.",
                    (rate("fastserve_requests", ("error_code",), ('error_code!=""',)), "{{error_code}}"),
                ),
            ),
        ),
        Row(
            "Latency",
            (
                chart(
                    "Whole request",
                    "s",
                    "First byte in to last byte out.",
                    *percentiles(DURATION, 50, 95, 99),
                ),
                chart(
                    "First token",
                    "s",
                    "Streams only.",
                    *percentiles(FIRST, 50, 95),
                ),
                chart(
                    "Inside the ingress",
                    "s",
                    "What the endpoint itself adds before a request leaves for its model.",
                    *percentiles("fastserve_ingress_time", 50, 99),
                ),
            ),
        ),
        Row(
            "What went wrong",
            (
                chart(
                    "Fallbacks",
                    "cps",
                    "Requests that left a model for the next best, by why.",
                    (rate("fastserve_fallbacks", ("model", "reason")), "{{model}}: {{reason}}"),
                ),
                chart(
                    "Retries",
                    "cps",
                    "Tries beyond the first on a model.",
                    (rate("fastserve_retries", ("model", "reason")), "{{model}}: {{reason}}"),
                ),
                chart(
                    "Lesser modes",
                    "cps",
                    "Something works in a lesser mode, and in which.",
                    (rate("fastserve_degraded", ("mode",)), "{{mode}}"),
                ),
                chart(
                    "Background work that failed",
                    "cps",
                    "It is tried again each time.",
                    (rate("fastserve_background_failures", ("task",)), "{{task}}"),
                ),
                chart(
                    "Age of what is dispatched by",
                    "s",
                    "The oldest snapshot of the table in an ingress, the oldest record that is not stored.",
                    (value("fastserve_snapshot_age", how="max"), "snapshot"),
                    (value("fastserve_table_lag", how="max"), "unstored"),
                ),
                chart(
                    "Store and keys",
                    "short",
                    "Store: 1 while it takes writes. Writer: 1 while this cluster writes policy state.",
                    (value("fastserve_store_available", how="min"), "store"),
                    (value("fastserve_store_writer", how="max"), "writer"),
                    (value("fastserve_store_alarms", how="max"), "alarms"),
                    (value("fastserve_keys", how="min"), "keys that hold"),
                ),
            ),
        ),
    ),
    {},
)
