"""What is charged to a decision: everything that came of it, whoever answered in the end."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from deployments.learning.live_evidence import (
    Finished,
    compared,
    finished,
    normalised_reward,
    shed_reward,
    sliced,
    votes_by_decision,
)
from deployments.records.records import DecisionRecord, FeedbackRecord, OutcomeRecord
from policies.observation import MODEL_COLUMN
from policies.outcome import Status
from policies.reward import reward as policy_reward
from tests.deployments.traffic import decision, outcome

TARGET_S = 2.0
CALLER = (1.0, 1.0, 0.0, TARGET_S)
USUAL = np.array([0.5, 0.5])


def read(record: DecisionRecord, result: OutcomeRecord) -> list[Finished]:
    return finished([(record, result)], {}, TARGET_S)


def reward(score: float, e2e_s: float) -> float:
    return normalised_reward(score, e2e_s, 0.0, CALLER, 0.0, TARGET_S)


def test_an_answer_earns_what_was_predicted_of_it() -> None:
    record = decision("d", 10.0, model="small")
    (one,) = read(record, outcome(record, 11.0, e2e_s=1.0))
    assert one.reward == pytest.approx(reward(0.5, 1.0))
    assert not one.failed


def test_what_another_model_had_to_answer_scores_nothing_and_took_as_long_as_it_took() -> None:
    record = decision("d", 10.0, "learned@7", "small")
    result = replace(outcome(record, 13.0, e2e_s=3.0), model="large", fallbacks=("small",))
    (one,) = read(record, result)
    assert one.reward == pytest.approx(reward(0.0, 3.0))
    assert one.failed
    assert compared(one, 7, USUAL).tested


def test_a_second_replica_of_the_same_model_is_no_rescue() -> None:
    record = decision("d", 10.0, model="small")
    result = outcome(record, 13.0, e2e_s=3.0)
    (one,) = read(record, replace(result, outcome=replace(result.outcome, attempts=2)))
    assert one.reward == pytest.approx(reward(0.5, 3.0))
    assert not one.failed


@pytest.mark.parametrize(("age_s", "charged_s"), [(0.2, 1.0), (3.5, 3.5)])
def test_what_the_client_left_took_at_least_until_then(age_s: float, charged_s: float) -> None:
    record = decision("d", 10.0, model="small")
    (one,) = read(record, outcome(record, 10.0 + age_s, Status.CANCELLED, age_s))
    assert one.reward == pytest.approx(reward(0.5, charged_s))


def test_a_request_that_was_refused_for_what_it_asked_says_nothing() -> None:
    record = decision("d", 10.0)
    refused = outcome(record, 11.0, Status.REJECTED)
    assert finished([(record, refused)], {}, TARGET_S, with_shed=True) == []


def test_one_that_was_refused_for_load_earns_what_no_answer_earns() -> None:
    """Where slices of time are compared: score 0, as late as can be, no cost; and nobody failed."""
    record = decision("d", 10.0, "learned@7", assigned=7)
    ended = outcome(record, 10.0, Status.REJECTED)
    shed = replace(ended, outcome=replace(ended.outcome, is_shed=True, e2e_s=None))
    assert read(record, shed) == []
    (one,) = finished([(record, shed)], {}, TARGET_S, with_shed=True)
    assert one.reward == pytest.approx(reward(0.0, 1e9))
    assert one.reward < reward(0.0, TARGET_S)
    assert not one.failed
    found = sliced(one, 7)
    assert found.tested
    (answered,) = read(record, outcome(record, 11.0))
    assert found.surplus - sliced(answered, 7).surplus == pytest.approx(one.reward - answered.reward)


def test_what_no_answer_earns_is_what_the_simulator_says() -> None:
    accuracy, latency, cost = 1.0, 0.5, 0.25
    own = policy_reward(0.0, 1.0, 0.0, accuracy, latency, cost)
    total = accuracy + latency + cost
    assert shed_reward((accuracy, latency, cost, 2.0)) == pytest.approx((own + latency + cost) / total)


def test_one_whose_model_failed_before_it_found_no_room_elsewhere_failed() -> None:
    record = decision("d", 10.0, model="small")
    ended = outcome(record, 11.0, Status.REJECTED)
    shed = replace(ended, outcome=replace(ended.outcome, is_shed=True), fallbacks=("small",))
    (one,) = finished([(record, shed)], {}, TARGET_S, with_shed=True)
    assert one.failed


def test_a_request_whose_version_had_not_arrived_says_nothing() -> None:
    record = decision("d", 10.0, "formula;fallback=missing", assigned=7)
    assert read(record, outcome(record, 11.0)) == []


@pytest.mark.parametrize("reason", ["error", "nonfinite", "breaker"])
def test_where_the_formula_stood_in_the_assigned_version_failed(reason: str) -> None:
    record = decision("d", 10.0, f"formula;fallback={reason}", assigned=7)
    (one,) = read(record, outcome(record, 11.0))
    request = compared(one, 7, USUAL)
    assert request.tested
    assert request.failed


def test_a_guard_that_asks_for_the_formula_is_no_failure_of_the_assigned_version() -> None:
    record = decision("d", 10.0, "formula;fallback=alarm", assigned=7)
    (one,) = read(record, outcome(record, 11.0))
    assert compared(one, 7, USUAL).tested
    assert not one.failed


def test_the_assigned_version_answers_for_a_session_that_another_one_began() -> None:
    record = decision("d", 10.0, "learned@6;sticky", assigned=7)
    (one,) = read(record, outcome(record, 11.0))
    assert compared(one, 7, USUAL).tested
    assert not compared(one, 6, USUAL).tested


def test_a_record_of_an_earlier_version_is_charged_to_whoever_decided() -> None:
    stored = msgspec.to_builtins(decision("d", 10.0, "learned@7;sticky"))
    del stored["assigned"]
    assert msgspec.convert(stored, DecisionRecord).charged_version == 7
    assert decision("d", 10.0, "formula").charged_version == 0


def test_only_the_metrics_of_the_settings_are_votes() -> None:
    said = [
        FeedbackRecord("d", "k", metric, score, 1.0) for metric, score in (("helpful", 0.2), ("toxic", 1.0))
    ]
    assert votes_by_decision(said, ("helpful",)) == {"d": pytest.approx(0.2)}


def test_what_a_slice_takes_off_a_reward_does_not_depend_on_queues_or_on_who_decides() -> None:
    record = decision("d", 10.0, "learned@7", assigned=7)
    slow = msgspec.structs.replace(record, rows=tuple(_later(row, 30.0) for row in record.rows))
    quick, late = (read(one, outcome(one, 11.0))[0] for one in (record, slow))
    assert sliced(quick, 7) == sliced(late, 7)
    assert sliced(quick, 7).tested
    assert not sliced(quick, 6).tested
    assert sliced(quick, 7).created_s == 10.0


def _later(row: tuple[float, ...], e2e_s: float) -> tuple[float, ...]:
    changed = list(row)
    changed[MODEL_COLUMN["e2e_s"]] = e2e_s
    return tuple(changed)


def test_without_latency_a_slow_answer_is_worth_as_much_as_a_quick_one() -> None:
    record = decision("d", 10.0)
    slow, quick = (
        finished([(record, outcome(record, 40.0, e2e_s=e2e_s))], {}, 2.0, counts_latency=False)[0]
        for e2e_s in (30.0, 1.0)
    )
    assert slow.reward == quick.reward
    assert (slow.expected == quick.expected).all()
