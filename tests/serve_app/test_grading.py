"""Live prompts are graded for both versions of a canary: only where they disagree, only on idle models."""

from dataclasses import replace
from typing import Any

import pytest

from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.request import DispatchRequest, Prompt
from deployments.dispatch.settings import DispatchSettings
from deployments.keys.key import Key
from deployments.metrics.meter import MemoryMeter
from deployments.records.graded import graded_pairs
from deployments.records.records import FeedbackRecord
from policies.outcome import Status
from policies.promotion.graded import GradedPair
from policies.promotion.rollout import Candidate, RolloutState, Stage
from serve_app.body.calls import Call
from serve_app.config import GradingSettings, IngressSettings
from serve_app.grading import GRADER, Grader
from serve_app.upstream.job import Job
from tests.clock import Clock
from tests.deployments.dispatch.dispatchers import Made, MadeLoaders
from tests.deployments.pools import View, model, snapshot
from tests.serve_app.jobs import KEY

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
ON = IngressSettings(grading=GradingSettings(share=1.0, judge="judge"))
ROLLOUT = RolloutState(candidate=Candidate(2, Stage.CANARY, share=0.5))


class Votes:
    """The table's votes."""

    def __init__(self) -> None:
        self.stored: list[FeedbackRecord] = []

    async def feedback(self, record: FeedbackRecord) -> str:
        self.stored.append(record)
        return "new"


class Pool:
    """An endpoint whose models say what the test wants: the judge prefers Paris."""

    def __init__(self, settings: IngressSettings = ON, rollout: RolloutState = ROLLOUT) -> None:
        self.settings = settings
        self.view = View(
            snapshot(
                model("bad", accuracy=0.6),
                model("good", accuracy=0.7),
                model("judge", weight=0.0),
                rollout=rollout,
            )
        )
        self.dispatcher = Dispatcher(self.view, DispatchSettings(), loaders=MadeLoaders())
        self.dispatcher.host.hold(2, Made((1.0, 0.0, 0.0)))
        self.dispatcher.host.rule = Made((0.0, 1.0, 0.0))  # type: ignore[assignment]
        self.asked: list[dict[str, Any]] = []
        self.verdicts = {"Lyon": "3", "Paris": "Grade: 9"}
        self.votes, self.meter, self.clock = Votes(), MemoryMeter(), Clock(100.0)
        self.grader = Grader(self, self.votes, self.meter, self.clock)  # type: ignore[arg-type]

    async def ask(self, key: Key, body: dict[str, Any]) -> Any:
        assert key is GRADER
        self.asked.append(body)
        content = {"bad": "Lyon", "good": "Paris"}.get(body["model"], "")
        if body["model"] == "judge":
            question = str(body["messages"])
            assert "bad" not in question  # whose answer it is the judge does not learn
            assert "good" not in question
            content = next(grade for answer, grade in self.verdicts.items() if answer in question)
        return {"choices": [{"message": {"content": content}}]}

    def job(self, requested: str = "auto", status: Status = Status.OK, **body: Any) -> Job:
        """A request that has ended."""
        prompt = Prompt("What is the capital of France?")
        dispatch = self.dispatcher.dispatch(DispatchRequest("d-1", requested, prompt))
        call = Call("/v1/chat/completions", {"messages": MESSAGES, "stream": True, **body}, requested, prompt)
        job = Job(call, b"", dispatch, 0.0, 1e9, KEY, [])
        job.result.status = status
        return job


async def test_both_choices_are_asked_and_judged_and_only_scores_are_kept() -> None:
    pool = Pool()
    pool.grader.offer(pool.job(max_tokens=40))
    await pool.grader.turn()
    assert [body["model"] for body in pool.asked] == ["bad", "judge", "good", "judge"]
    assert pool.asked[0] == {"messages": MESSAGES, "max_tokens": 40, "model": "bad"}
    (pair,) = graded_pairs(pool.votes.stored, 2).values()
    assert pair == GradedPair(0.3, 0.9, 0.6, 0.7)
    assert "France" not in str(pool.votes.stored)


@pytest.mark.parametrize(
    "pool",
    [
        Pool(IngressSettings()),
        Pool(rollout=RolloutState()),
        Pool(rollout=RolloutState(candidate=replace(ROLLOUT.candidate, stage=Stage.SHADOW))),  # type: ignore[type-var]
    ],
)
async def test_without_a_share_or_a_canary_nothing_is_asked(pool: Pool) -> None:
    pool.grader.offer(pool.job())
    await pool.grader.turn()
    assert pool.asked == []


async def test_what_was_named_failed_or_agreed_on_is_left() -> None:
    pool = Pool()
    pool.grader.offer(pool.job("good"))
    pool.grader.offer(pool.job(status=Status.FAILED))
    pool.dispatcher.host.hold(2, Made((0.0, 1.0, 0.0)))
    pool.grader.offer(pool.job())
    await pool.grader.turn()
    assert pool.asked == []


async def test_a_prompt_waits_until_all_its_models_are_idle_but_not_for_ever() -> None:
    pool = Pool()
    pool.view.flight["judge"] = 8
    pool.grader.offer(pool.job())
    await pool.grader.turn()
    assert pool.asked == []
    pool.clock.now_s += 700.0
    pool.view.flight.clear()
    await pool.grader.turn()
    assert pool.asked == []


async def test_a_judge_that_gives_no_number_grades_nothing() -> None:
    pool = Pool()
    pool.verdicts = {"Lyon": "splendid", "Paris": "9"}
    pool.grader.offer(pool.job())
    await pool.grader.turn()
    assert pool.votes.stored == []


def test_grading_needs_a_judge() -> None:
    with pytest.raises(ValueError, match="judge"):
        GradingSettings(share=0.1)
