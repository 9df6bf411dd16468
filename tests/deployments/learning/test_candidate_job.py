"""A training run on a small table: it trains, judges, and says what is missing."""

from dataclasses import replace

import numpy as np
import pytest

from deployments.learning.candidate_data import items
from deployments.learning.candidate_job import JobInput, JobResult, Study, incumbent_of, job_apart, run_job
from deployments.learning.log_fits import fit_pool
from deployments.learning.settings import LearnerSettings, TrainingSettings
from deployments.records.records import EvaluationRecord
from deployments.records.snapshot import Snapshot
from policies.learned.policy import LearnedPolicy
from policies.priced import PricedPolicy
from policies.prompt.features import extract, pack
from tests.deployments.pools import NOW_S, model

TRAINING = TrainingSettings(decisions=10_000, environments=8, hidden=8, episodes=2, episode_requests=60)
SETTINGS = LearnerSettings(training=TRAINING)
POOL = Snapshot(
    "boot", 1, NOW_S, {"large": model("large", tpot_s=0.05), "small": model("small", tpot_s=0.01)}
)


def evaluations(count: int = 60) -> list[EvaluationRecord]:
    """Items of two tasks: small is good at one, large at both."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        task = "label" if i % 2 else "write"
        features = pack(extract(f"{task} item {i} about topic {rng.integers(9)}"))
        for name, chance in (("large", 0.8), ("small", 0.85 if task == "label" else 0.1)):
            found.append(
                EvaluationRecord(
                    "s",
                    "1",
                    str(i),
                    task,
                    "",
                    name,
                    "",
                    float(rng.random() < chance),
                    None,
                    features,
                    12,
                    20,
                    0.1,
                    0.01,
                    1.5 if name == "large" else 0.4,
                    finished_s=1.0,
                    language="en",
                )
            )
    return found


def job(records: list[EvaluationRecord], **changes: bytes) -> JobInput:
    return JobInput(POOL, records, [], [], SETTINGS.model_dump_json().encode(), 20.0, 0.05, **changes)


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


async def test_a_job_in_its_own_process_gives_the_same(result: JobResult) -> None:
    apart = await job_apart(job(evaluations(), candidate=result.checkpoint), SETTINGS)
    assert apart.checkpoint == result.checkpoint
    assert [v.gate for v in apart.verdicts] == [
        v.gate for v in run_job(job(evaluations(), candidate=result.checkpoint)).verdicts
    ]
