"""Series, labels and selections that several dashboards name."""

from typing import Final

from serve_app.monitoring.query import quantile

HOUR: Final = "3600 * "  # of something per second: an hour's
DURATION: Final = "gen_ai_server_request_duration"
FIRST: Final = "gen_ai_server_time_to_first_token"
TOKENS: Final = "gen_ai_client_token_usage"
BY: Final = ("gen_ai_response_model",)


def percentiles(name: str, *ranks: int) -> tuple[tuple[str, str], ...]:
    """Percentiles over the whole pool, each with its legend."""
    return tuple((quantile(rank / 100, name), f"p{rank}") for rank in ranks)
