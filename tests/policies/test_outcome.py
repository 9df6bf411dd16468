"""Outcomes: statuses as they are written to logs and metrics."""

from policies.outcome import Outcome, Status


def test_statuses_are_their_words() -> None:
    assert [str(status) for status in Status] == ["ok", "failed", "rejected", "cancelled"]


def test_an_outcome_without_an_answer_has_no_times() -> None:
    outcome = Outcome(Status.REJECTED, error_code="rate_limited")
    assert (outcome.ttft_s, outcome.tpot_s, outcome.e2e_s, outcome.quality) == (None, None, None, None)
    assert outcome.attempts == 1
    assert outcome.cost_usd == 0.0
