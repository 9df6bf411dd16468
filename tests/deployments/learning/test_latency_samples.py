"""Which requests of the log teach latency."""

from dataclasses import replace

import msgspec
import pytest

from deployments.learning.log_fits import fit_from_log, latency_samples
from deployments.records.records import DecisionRecord, OutcomeRecord
from policies.latency.model import LatencyModel
from policies.outcome import Outcome, Status
from tests.deployments.dispatch.test_dispatcher import ask, dispatcher

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


def test_an_older_observation_is_left_out() -> None:
    decision, outcome = logged()
    assert latency_samples([(msgspec.structs.replace(decision, observation_version=0), outcome)]) == []


def test_a_fit_from_the_log_knows_the_model() -> None:
    fitted = fit_from_log([logged()] * 40, LatencyModel(), "r1")
    assert fitted.revision == "r1"
    assert fitted.parameters["small"].count == 40
    assert fitted.parameters["small"].tpot_s == pytest.approx(0.05, rel=0.01)
