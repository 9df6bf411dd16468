import logging
from dataclasses import replace

import msgspec
import pytest

from deployments.learning.log_fits import NotEnoughError, fit_from_log, fit_pool, latency_samples
from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.snapshot import Snapshot
from policies.latency.model import LatencyModel
from policies.outcome import Outcome, Status
from tests.deployments.dispatch.dispatchers import ask, dispatcher
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


ANSWERED = Outcome(Status.OK, ttft_s=0.2, tpot_s=0.05, e2e_s=1.2, prompt_tokens=40, output_tokens=21)


def logged(outcome: Outcome = ANSWERED, model: str = "small") -> tuple[DecisionRecord, OutcomeRecord]:
    decision = dispatcher().dispatch(ask(requested="small")).record
    return decision, OutcomeRecord("d", 0.0, model, "r", outcome)


def test_an_answered_request_becomes_a_sample_with_the_counted_tokens() -> None:
    (sample,) = latency_samples([logged()])
    assert (sample.model, sample.ttft_s, sample.tpot_s, sample.output_tokens) == ("small", 0.2, 0.05, 21)
    assert sample.prompt[0] == 40.0
    assert (sample.in_flight, sample.slots, sample.replicas) == (0.0, 8.0, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Status.FAILED},
        {"status": Status.CANCELLED},
        {"attempts": 2},
        {"ttft_s": None},
        {"output_tokens": 0},
    ],
)
def test_a_request_that_says_nothing_of_the_model_is_left_out(changes: dict[str, object]) -> None:
    assert latency_samples([logged(replace(ANSWERED, **changes))]) == []  # type: ignore[arg-type]


def test_unfinished_and_answered_by_another_model_are_left_out() -> None:
    decision, _ = logged()
    assert latency_samples([(decision, None), logged(model="large")]) == []


def test_one_key_gives_no_more_than_its_part_of_what_is_learned() -> None:
    def by(key: str, count: int) -> list[tuple[DecisionRecord, OutcomeRecord | None]]:
        decision, outcome = logged()
        return [(msgspec.structs.replace(decision, key_id=key), outcome)] * count

    honest = [pair for n in range(10) for pair in by(f"user-{n}", 200)]
    assert len(latency_samples([*honest, *by("flood", 20_000)])) == 2_000 + 500  # a fifth of all
    assert len(latency_samples(by("only", 3_000))) == 3_000  # who is alone is all there is
    assert len(latency_samples([*by("main", 3_000), *by("test", 3)])) == 200 + 3  # never less than that


def test_the_newest_requests_of_a_key_are_used() -> None:
    decision, outcome = logged()
    pairs = [
        (
            msgspec.structs.replace(decision, key_id=key),
            replace(outcome, outcome=replace(ANSWERED, output_tokens=n)),
        )
        for n in range(1, 301)
        for key in ("a", "b")
    ][:-200]
    samples = latency_samples([*pairs, *[(msgspec.structs.replace(decision, key_id="a"), outcome)] * 5_000])
    assert [one.output_tokens for one in samples[-200:]] == [21] * 200


def test_an_older_observation_is_left_out() -> None:
    decision, outcome = logged()
    assert latency_samples([(msgspec.structs.replace(decision, observation_version=0), outcome)]) == []


def test_a_fit_from_the_log_knows_the_model() -> None:
    fitted = fit_from_log([logged()] * 40, LatencyModel(), "r1")
    assert fitted.revision == "r1"
    assert fitted.parameters["small"].count == 40
    assert fitted.parameters["small"].tpot_s == pytest.approx(0.05, rel=0.01)
