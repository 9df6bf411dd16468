"""What a run of faults comes to: which requests are judged, what a failure is, and that all parts are hit."""

import random
import signal
from collections import Counter

from scripts.benchmarks.faults.chaos import plan
from scripts.benchmarks.faults.verdict import Books, Hit, bars, broken_elsewhere, outside
from scripts.benchmarks.serving.steady_load import Asked, Cut


def asked(began_s: float, took_s: float, status: int = 200, name: str = "", cut: Cut = "") -> Asked:
    error = "" if status == 200 and not cut else "wrong"
    return Asked("auto", bool(cut), began_s, took_s, error, status, name, cut)


KILLED = Hit("haproxy", "SIGKILL", 10.0, 0.5)
INGRESS = Hit("ingress", "SIGKILL", 20.0, 3.0)


def values(
    requests: list[Asked], hits: list[Hit], books: Books, counted: int
) -> dict[str, tuple[float, bool]]:
    return {one.name: (one.value, one.passed) for one in bars(requests, hits, books, counted, {"table": 3.0})}


def test_every_part_is_killed_and_stopped_before_any_comes_again() -> None:
    steps = plan(("a", "b", "c"), 12, random.Random(1))
    assert Counter(steps[:6]) == {
        (kind, how): 1 for kind in "abc" for how in (signal.SIGKILL, signal.SIGSTOP)
    }
    assert Counter(steps) == {step: 2 for step in steps[:6]}


def test_what_was_under_way_while_haproxy_was_down_is_counted_apart() -> None:
    before, at, during, after = asked(8.0, 1.0), asked(9.9, 0.2, 0), asked(10.3, 0.1, 0), asked(10.6, 0.1)
    assert outside([before, at, during, after], [KILLED, INGRESS]) == [before, after]
    found = values([before, at, during, after], [KILLED], Books((), frozenset()), 0)
    assert found["answered outside HAProxy's down time, share"] == (1.0, True)
    assert found["longest time without HAProxy, s"] == (0.5, True)


def test_failures_losses_and_double_counts_are_found() -> None:
    requests = [
        asked(1.0, 0.1, name="one"),
        asked(2.0, 0.1, name="two"),
        asked(3.0, 0.1, 503),
        asked(4.0, 0.1, 404),
    ]
    books = Books(("one", "one", "three"), frozenset({"one", "three"}))
    found = values(requests, [INGRESS], books, 3)
    assert found["answered outside HAProxy's down time, share"] == (0.5, False)
    assert found["404"] == (1.0, False)
    assert found["acknowledged and not in the log"] == (1.0, False)
    assert found["ids twice"] == (1.0, False)
    assert found["`fastserve usage` against the log, requests"] == (1.0, False)
    assert found["faults of the rarest kind"] == (1.0, False)


def test_a_stream_may_break_off_only_with_its_ingress() -> None:
    with_it, without = asked(19.5, 1.0, cut="broken"), asked(30.0, 1.0, cut="broken")
    assert broken_elsewhere([with_it, without, asked(30.0, 1.0, cut="told")], [INGRESS]) == [without]
    found = values([with_it, asked(31.0, 1.0, cut="silent")], [INGRESS], Books((), frozenset()), 0)
    assert found["streams that end in silence"] == (1.0, False)
