"""A training run on a small table: it trains, judges, and says what is missing."""

from dataclasses import replace

import pytest

from deployments.learning.candidate_data import items
from deployments.learning.candidate_job import JobResult, Study, incumbent_of, run_job
from deployments.learning.log_fits import fit_pool
from policies.learned.policy import LearnedPolicy
from policies.priced import PricedPolicy
from tests.deployments.graded_pool import POOL, SETTINGS, evaluations, job


@pytest.fixture(scope="module")
def result() -> JobResult:
    return run_job(job(evaluations()))


def test_it_trains_a_checkpoint_that_loads_and_judges_it(result: JobResult) -> None:
    assert LearnedPolicy.from_bytes(result.checkpoint).revision
    assert [verdict.gate for verdict in result.verdicts][:2] == ["load", "finite"]
    assert result.items == 60
    assert result.curve


def test_the_same_input_gives_the_same_candidate(result: JobResult) -> None:
    assert run_job(job(evaluations())).checkpoint == result.checkpoint


def test_a_given_candidate_is_judged_and_not_trained(result: JobResult) -> None:
    again = run_job(job(evaluations(), candidate=result.checkpoint))
    assert (again.checkpoint, again.curve) == (result.checkpoint, [])


def test_a_damaged_candidate_is_stopped_at_the_first_gate(result: JobResult) -> None:
    verdicts = run_job(job(evaluations(), candidate=result.checkpoint[:-5])).verdicts
    assert [(verdict.gate, verdict.passed) for verdict in verdicts] == [("load", False)]


def test_training_does_not_see_what_was_scored_only_what_is_predicted() -> None:
    known = items(evaluations(), ["large", "small"], {})
    pool = fit_pool(POOL, []).specs
    one, other = (
        Study(pool, replace(known, score=score), [], SETTINGS).train(20.0, [], print)
        for score in (known.score, 1.0 - known.score)
    )
    assert one == other


def test_it_says_what_is_missing() -> None:
    assert "10 items" in run_job(job(evaluations(10))).missing


def test_the_priced_rule_is_the_incumbent_until_a_version_is_active(result: JobResult) -> None:
    assert isinstance(incumbent_of(job([])), PricedPolicy)
    assert isinstance(incumbent_of(job([], incumbent=result.checkpoint)), LearnedPolicy)
