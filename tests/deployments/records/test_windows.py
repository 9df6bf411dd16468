"""Windows follow each other without a gap and begin where people expect it."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.records.windows import PATTERN, bounds

WINDOWS = ["1m", "15m", "59m", "1h", "12h", "1d", "30d", "1w", "2w", "month"]


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@given(st.sampled_from(WINDOWS), st.floats(0.0, 4e9))
def test_windows_follow_each_other(window: str, now_s: float) -> None:
    start_s, end_s = bounds(window, now_s)
    assert start_s <= now_s < end_s
    assert bounds(window, end_s)[0] == end_s
    assert bounds(window, start_s) == (start_s, end_s)


@pytest.mark.parametrize(
    ("window", "start"),
    [
        ("1d", "2026-12-31 00:00"),
        ("month", "2026-12-01 00:00"),
        ("1w", "2026-12-28 00:00"),  # a Monday
        ("12h", "2026-12-31 12:00"),
        ("15m", "2026-12-31 13:30"),
    ],
)
def test_a_window_begins_at_a_round_time(window: str, start: str) -> None:
    assert bounds(window, at("2026-12-31 13:37"))[0] == at(start)


def test_the_last_month_of_a_year_ends_with_it() -> None:
    assert bounds("month", at("2026-12-31 13:37"))[1] == at("2027-01-01 00:00")


@pytest.mark.parametrize("wrong", ["", "1", "0d", "60m", "1y", "d", "1.5d", "-1d"])
def test_what_is_no_window_is_refused(wrong: str) -> None:
    assert re.fullmatch(PATTERN, wrong) is None
