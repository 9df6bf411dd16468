"""The live page: totals and rates from snapshots."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from serve_app.console.top import Rates, top_page
from tests.deployments.pools import model, snapshot


def test_the_rate_is_of_the_requests_between_snapshots_and_starts_anew_with_the_table() -> None:
    rates, first = Rates(), snapshot(model("a"))
    row = first.models["a"]

    def at(taken_at_s: float, requests: int) -> float:
        return rates.per_s(
            replace(first, taken_at_s=taken_at_s, models={"a": replace(row, requests=requests)})
        )

    assert at(0.0, 100) == 0.0
    assert at(2.0, 110) == pytest.approx(5.0)
    assert at(20.0, 200) == pytest.approx(5.0)
    assert at(21.0, 3) == 0.0


def test_the_page_says_how_old_it_is_and_has_a_line_a_model() -> None:
    made = snapshot(model("a"), model("b"))
    console = Console(file=io.StringIO(), width=180)
    console.print(top_page(made, 12.34, now_s=made.taken_at_s + 1.5))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "12.3 requests/s" in shown
    assert "1.5 s old" in shown
    assert len([line for line in shown.splitlines() if line.startswith(("a ", "b "))]) == 2
