"""The sums over the outcome log are exact and count every request once."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.records.records import DecisionRecord, OutcomeRecord
from policies.outcome import Outcome, Status
from serve_app.access import spending
from serve_app.access.spending import read, summed

DAY_S = 86_400.0


def pair(number, created_s=0.0, *, key="k", model="m", cost_usd=1e-7, ended=True):
    decision = DecisionRecord(f"d{number}", created_s, key, "auto", "p", "chosen", "formula", 1.0, 0.0, 0)
    outcome = Outcome(Status.OK, prompt_tokens=3, output_tokens=2, cost_usd=cost_usd)
    return decision, OutcomeRecord(f"d{number}", created_s + 1.0, model, "r", outcome) if ended else None


class Log:
    """A log that is read in pages."""

    def __init__(self, pairs):
        self.pairs = sorted(pairs, key=lambda one: one[0].created_s)

    async def transitions(self, after_s, limit):
        return [one for one in self.pairs if one[0].created_s > after_s][:limit]


def test_rows_are_by_day_key_model_and_profile():
    log = [pair(0), pair(1, key="l"), pair(2, DAY_S, model="n"), pair(3, ended=False), pair(4)]
    rows = summed(log)
    assert [(row["day"], row["key_id"], row["model"], row["requests"]) for row in rows] == [
        ("1970-01-01", "k", "m", 2),
        ("1970-01-01", "l", "m", 1),
        ("1970-01-02", "k", "n", 1),
    ]
    assert rows[0]["profile"] == "p"
    assert (rows[0]["prompt_tokens"], rows[0]["output_tokens"]) == (6, 4)


@given(st.lists(st.integers(0, 10**9), max_size=50))
def test_the_sum_of_costs_is_exact(nano_usd):
    rows = summed([pair(i, cost_usd=n / 1e9) for i, n in enumerate(nano_usd)])
    assert [round(row["cost_usd"] * 1e9) for row in rows] == ([sum(nano_usd)] if nano_usd else [])


def test_savings_are_against_the_baseline_of_those_that_had_one():
    log = [pair(0, cost_usd=3e-9), pair(1, cost_usd=5e-9)]
    log[1] = (log[1][0], replace(log[1][1], baseline_usd=9e-9))
    [row] = summed(log)
    assert (row["cost_usd"], row["saved_usd"]) == (8e-9, 4e-9)


@pytest.mark.parametrize("size", [3, 4, 7, 100])
async def test_each_decision_is_read_once_though_many_share_an_instant(size, monkeypatch):
    monkeypatch.setattr(spending, "_PAGE", size)
    pairs = [pair(i, float(i // 3)) for i in range(20)]
    found = [decision.decision_id async for decision, _ in read(Log(pairs), -1.0)]
    assert sorted(found) == sorted(decision.decision_id for decision, _ in pairs)
