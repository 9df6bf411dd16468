"""Each model on its own: the second dashboard."""

from typing import Final

from serve_app.monitoring.panels import Dashboard, Row, chart
from serve_app.monitoring.query import histogram_rate, quantile, rate, value
from serve_app.monitoring.series import BY, DURATION, FIRST, HOUR, TOKENS

_EACH: Final = "gen_ai_server_time_per_output_token"
_ONE: Final = ('model=~"$model"',)
_ANSWERED: Final = ('gen_ai_response_model=~"$model"',)


def _by_model(name: str) -> tuple[tuple[str, str], ...]:
    """p50 and p95 of each model that answered, with their legends."""
    return tuple(
        (quantile(rank / 100, name, BY, _ANSWERED), f"{{{{gen_ai_response_model}}}} p{rank}")
        for rank in (50, 95)
    )


MODEL: Final = Dashboard(
    "fastserve-model",
    "FastServe: models",
    "Each model: its load, its speed, its quality and its failures.",
    (
        Row(
            "Load",
            (
                chart(
                    "Requests",
                    "reqps",
                    "By outcome.",
                    (rate("fastserve_requests", ("model", "status"), _ONE), "{{model}} {{status}}"),
                    stacked=True,
                ),
                chart(
                    "Working, waiting, room",
                    "short",
                    "Requests inside the engines, and how many they can take at once.",
                    (value("fastserve_running", ("model",), _ONE), "{{model}} working"),
                    (value("fastserve_waiting", ("model",), _ONE), "{{model}} waiting"),
                    (value("fastserve_slots", ("model",), _ONE), "{{model}} room"),
                ),
                chart(
                    "Waiting for a slot",
                    "short",
                    "In the ingress, by priority.",
                    (value("fastserve_queued", ("model", "priority"), _ONE), "{{model}} {{priority}}"),
                ),
                chart(
                    "Got no slot",
                    "reqps",
                    "Refused for lack of room, or expired.",
                    (rate("fastserve_shed", ("priority", "reason"), _ONE), "{{priority}} {{reason}}"),
                ),
                chart(
                    "Replicas",
                    "short",
                    "By state, as the table hears of them.",
                    (value("fastserve_replicas", ("model", "state"), _ONE) + " > 0", "{{model}} {{state}}"),
                ),
                chart(
                    "Asleep",
                    "short",
                    "Models without a replica, which wake when they are asked for.",
                    (value("fastserve_asleep", ("model",), _ONE) + " > 0", "{{model}}"),
                ),
            ),
        ),
        Row(
            "Speed",
            (
                chart(
                    "First token",
                    "s",
                    "Streams only.",
                    *_by_model(FIRST),
                ),
                chart(
                    "Each token after it",
                    "s",
                    "Mean over a request's tokens.",
                    *_by_model(_EACH),
                ),
                chart(
                    "Whole request",
                    "s",
                    "First byte in to last byte out.",
                    *_by_model(DURATION),
                ),
                chart(
                    "Wait in the ingress",
                    "s",
                    "For a slot; of those that had to.",
                    (
                        quantile(0.95, "fastserve_queued_time", ("model", "priority"), _ONE),
                        "{{model}} {{priority}} p95",
                    ),
                ),
                chart(
                    "Wait inside the engine",
                    "s",
                    "For a slot, before the prompt is read.",
                    (quantile(0.95, "fastserve_queue_time", ("model",), _ONE), "{{model}} p95"),
                ),
                chart(
                    "Time in the engine",
                    "s",
                    "The wait included.",
                    (quantile(0.95, "fastserve_engine_time", ("model",), _ONE), "{{model}} p95"),
                ),
                chart(
                    "Tokens",
                    "short",
                    "Tokens per second, read and written.",
                    (
                        histogram_rate(TOKENS, "sum", (*BY, "gen_ai_token_type"), _ANSWERED),
                        "{{gen_ai_response_model}} {{gen_ai_token_type}}",
                    ),
                ),
            ),
        ),
        Row(
            "Memory, quality, failures",
            (
                chart(
                    "KV cache in use",
                    "percentunit",
                    "Of the fullest replica.",
                    (value("fastserve_cache_use", ("model",), _ONE, "max"), "{{model}}"),
                ),
                chart(
                    "Tokens from the prefix cache",
                    "short",
                    "Prompt tokens per second that were not read again.",
                    (rate("fastserve_cached_tokens", ("model",), _ONE), "{{model}}"),
                ),
                chart(
                    "Predicted in the prefix cache",
                    "percentunit",
                    "Median share of a prompt, at the replica that was chosen among several.",
                    (quantile(0.5, "fastserve_predicted_cached_share", ("model",), _ONE), "{{model}}"),
                ),
                chart(
                    "Graded accuracy",
                    "percentunit",
                    "Mean score of the evaluation's answers, by task.",
                    (value("fastserve_accuracy", ("model", "task"), _ONE, "max"), "{{model}} {{task}}"),
                ),
                chart(
                    "Left for another model",
                    "cps",
                    "By why.",
                    (rate("fastserve_fallbacks", ("model", "reason"), _ONE), "{{model}}: {{reason}}"),
                ),
                chart(
                    "Tried again",
                    "cps",
                    "By why.",
                    (rate("fastserve_retries", ("model", "reason"), _ONE), "{{model}}: {{reason}}"),
                ),
                chart(
                    "Asked beside one that was late",
                    "cps",
                    "Second tries, by whether they answered first.",
                    (rate("fastserve_hedges", ("model", "result"), _ONE), "{{model}}: {{result}}"),
                ),
                chart(
                    "Tokens of tries that were outrun",
                    "cps",
                    "Tokens a second that a second try beside a late one has cost, as estimated.",
                    (rate("fastserve_hedged_tokens", ("model",), _ONE), "{{model}}"),
                ),
                chart(
                    "Cost an hour",
                    "currencyUSD",
                    "At the present rate.",
                    (HOUR + rate("fastserve_cost", ("model",), _ONE), "{{model}}"),
                ),
            ),
        ),
    ),
    {"model": "ray_fastserve_replicas"},
)
