"""Windows of budgets, such as `1d`: one after the other, each beginning at a fixed time (UTC)."""

from datetime import UTC, datetime
from typing import Final

PATTERN: Final = r"^(([1-9]|[1-5][0-9])m|[1-9][0-9]{0,2}[hdw]|month)$"
MINUTE_S: Final = 60
HOUR_S: Final = 3_600
LONGEST_S: Final = 400 * 24 * HOUR_S
_UNITS_S: Final = {"m": MINUTE_S, "h": HOUR_S, "d": 24 * HOUR_S, "w": 7 * 24 * HOUR_S}
_MONDAY_S: Final = 4 * 24 * HOUR_S  # the first one of Unix time, so that weeks begin on Mondays


def bounds(window: str, now_s: float) -> tuple[int, int]:
    """Wall time at which the window that `now_s` is in begins, and at which the next one does."""
    if window == "month":
        first = datetime.fromtimestamp(now_s, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        return int(first.timestamp()), int(following.timestamp())
    span_s = int(window[:-1]) * _UNITS_S[window[-1]]
    start_s = int((now_s - _MONDAY_S) // span_s) * span_s + _MONDAY_S
    return start_s, start_s + span_s


def grain_s(window: str) -> int:
    """Length of the parts whose sums make up a window."""
    return MINUTE_S if window.endswith("m") else HOUR_S
