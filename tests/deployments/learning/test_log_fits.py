import logging

import pytest

from deployments.learning.log_fits import NotEnoughError, fit_pool
from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.snapshot import Snapshot
from policies.outcome import Outcome, Status
from tests.deployments.pools import NOW_S, model

POOL = Snapshot("boot", 1, NOW_S, {name: model(name, tpot_s=0.05) for name in ("large", "small")})


def log(count: int, status: Status = Status.OK) -> list[tuple[DecisionRecord, OutcomeRecord | None]]:
    """Requests of `small` one after the other: 0.2 s to the first token, 10 ms for each that follows."""
    made: list[tuple[DecisionRecord, OutcomeRecord | None]] = []
    for n in range(count):
        tokens = 20 + n % 30
        record = DecisionRecord(f"d{n}", 10.0 * n, "k", "auto", "", "small", "formula", 1.0, 0.0, n)
        measured = Outcome(status, 0.2, 0.01, 0.2 + 0.01 * (tokens - 1), 0.0, 100, tokens)
        made.append((record, OutcomeRecord(record.decision_id, 10.0 * n, "small", "r", measured)))
    return made


def test_a_model_is_fitted_to_its_recorded_requests() -> None:
    fitted = fit_pool(POOL, [*log(40), *[(record, None) for record, _ in log(5)]])
    large, small = fitted.specs
    assert small.step_base_s + small.step_per_sequence_s == pytest.approx(0.01, rel=0.1)
    assert large.step_base_s == pytest.approx(0.04)
    assert fitted.evidence["small"] == "a fit to 40 recorded requests"


def test_a_thin_log_falls_back_to_medians_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fitted = fit_pool(POOL, [*log(19), *log(40, Status.FAILED)])
    assert fitted.specs[1].step_base_s == pytest.approx(0.04)
    assert "19 recorded requests are too few" in fitted.evidence["small"]
    assert "Simulator of 'small' is set up from medians of the table" in caplog.text


def test_one_model_is_not_enough() -> None:
    with pytest.raises(NotEnoughError, match="1 models may be chosen"):
        fit_pool(Snapshot("boot", 1, NOW_S, {"small": model("small")}), [])
