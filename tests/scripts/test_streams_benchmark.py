"""What the benchmarks of streams and of the ingress's CPU read from what they saw."""

import pytest

from scripts.benchmarks.streams.profile import shares
from scripts.benchmarks.streams.viewer import Viewer, Way, request, window


def viewer(arrivals_s: list[float], events: list[int]) -> Viewer:
    made = Viewer(b"")
    made.arrivals_s, made.events = arrivals_s, events
    return made


def test_a_window_counts_tokens_and_the_time_between_them() -> None:
    seen = window([viewer([0.9, 1.0, 1.05, 1.15, 2.1], [1, 1, 2, 1, 1])], 1.0, 2.0)
    assert (seen.tokens, seen.tokens_per_s) == (4, 4.0)
    assert seen.gaps_s == pytest.approx([0.05, 0.0, 0.1])
    assert seen.quantile_ms(0.5) == pytest.approx(50.0)


def test_events_are_counted_by_their_blank_lines_and_a_refusal_is_kept() -> None:
    made = viewer([], [])
    made.data_received(b"HTTP/1.1 200 OK\r\n\r\n5\r\ndata: a\n\ndata: b\n\n\r\n")
    made.data_received(b"3\r\ndata: c")
    assert (made.events, made.refused) == ([2], b"")
    refused = viewer([], [])
    refused.data_received(b"HTTP/1.1 401 Unauthorized\r\n\r\n{}")
    assert refused.refused.startswith(b"HTTP/1.1 401")


def test_a_request_goes_to_the_way_s_path() -> None:
    made = request(Way("bare", [], "k", "m", ()), "http://127.0.0.1:8000/bare", "Hi", 3)
    assert made.startswith(b"POST /bare/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n")


def test_a_sample_counts_for_its_innermost_part_and_waiting_for_none() -> None:
    samples = "\n".join(
        (
            "run (asyncio/runners.py:1);app (serve_app/asgi.py:2);send (uvicorn/protocols/http.py:3) 3",
            "run (asyncio/runners.py:1);app (serve_app/asgi.py:2);dumps (json/encoder.py:9) 1",
            "_bootstrap (threading.py:1);Condition.wait (threading.py:2) 50",
        )
    )
    assert shares(samples) == {"uvicorn (HTTP server)": 0.75, "serve_app": 0.25}
