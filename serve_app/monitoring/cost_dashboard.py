"""What requests cost and who spends it: the fourth dashboard."""

from typing import Final

from serve_app.monitoring.panels import Dashboard, Row, chart, number
from serve_app.monitoring.query import added, histogram_rate, rate, ratio, value
from serve_app.monitoring.series import BY, HOUR, TOKENS

_KEY: Final = ('key=~"$key"',)
_FOR_LIMITS: Final = (
    'error_code=~"rate_limit_exceeded|budget_exceeded|limits_unavailable|overloaded"',
    'status="rejected"',
)

COST: Final = Dashboard(
    "fastserve-cost",
    "FastServe: cost and keys",
    "What requests cost, what that saves, and who spends it.",
    (
        Row(
            "Money",
            (
                number("Cost", "currencyUSD", "Over the range that is shown.", added("fastserve_cost")),
                number(
                    "The same at the baseline",
                    "currencyUSD",
                    "The same tokens at the prices of `baseline_model`.",
                    added("fastserve_baseline_cost"),
                ),
                number(
                    "Saved",
                    "percentunit",
                    "Of what the baseline would have cost.",
                    f"1 - {ratio(added('fastserve_cost'), added('fastserve_baseline_cost'))}",
                ),
                number(
                    "For a thousand requests",
                    "currencyUSD",
                    "Mean cost over the range that is shown.",
                    f"1000 * {ratio(added('fastserve_cost'), added('fastserve_requests'))}",
                ),
            ),
        ),
        Row(
            "By model",
            (
                chart(
                    "Cost an hour",
                    "currencyUSD",
                    "At the present rate.",
                    (HOUR + rate("fastserve_cost", ("model",)), "{{model}}"),
                    stacked=True,
                ),
                chart(
                    "Against the baseline",
                    "currencyUSD",
                    "An hour's cost, and the same tokens at the baseline's prices.",
                    (HOUR + rate("fastserve_cost"), "cost"),
                    (HOUR + rate("fastserve_baseline_cost"), "baseline"),
                ),
                chart(
                    "Tokens",
                    "short",
                    "Per second, read and written.",
                    (
                        histogram_rate(TOKENS, "sum", (*BY, "gen_ai_token_type")),
                        "{{gen_ai_response_model}} {{gen_ai_token_type}}",
                    ),
                ),
            ),
        ),
        Row(
            "By key",
            (
                chart(
                    "Requests",
                    "reqps",
                    "By key and outcome.",
                    (rate("fastserve_key_requests", ("key", "status"), _KEY), "{{key}} {{status}}"),
                    stacked=True,
                ),
                chart(
                    "Cost an hour",
                    "currencyUSD",
                    "At the present rate.",
                    (HOUR + rate("fastserve_key_cost", ("key",), _KEY), "{{key}}"),
                    stacked=True,
                ),
                chart(
                    "Tokens",
                    "short",
                    "Per second, read and written.",
                    (rate("fastserve_key_tokens", ("key", "kind"), _KEY), "{{key}} {{kind}}"),
                ),
                chart(
                    "Cost by key",
                    "currencyUSD",
                    "Over the range that is shown.",
                    (added("fastserve_key_cost", ("key",), _KEY), "{{key}}"),
                ),
                chart(
                    "Refused for limits",
                    "reqps",
                    "Rates, budgets and room, by the code that callers saw.",
                    (
                        rate(
                            "fastserve_requests",
                            ("error_code",),
                            _FOR_LIMITS,
                        ),
                        "{{error_code}}",
                    ),
                ),
                chart(
                    "Keys that hold",
                    "short",
                    "0: the key file cannot be used, and every request is refused.",
                    (value("fastserve_keys", how="min"), "keys"),
                ),
            ),
        ),
    ),
    {"key": "ray_fastserve_key_requests_total"},
)
