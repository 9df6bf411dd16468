"""The evaluator: new things first, budgets, bad suites, restarts, what it publishes; the session."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deployments.evaluation.evaluator import Evaluator, left_today, model_revision
from deployments.evaluation.session import Session, UnknownModelError
from deployments.evaluation.settings import BudgetSettings, EvaluatorSettings, PaceSettings
from deployments.keys.internal import internal_credential
from deployments.learning.quality_fit import fit_quality
from deployments.records.records import DecisionRecord, EvaluationRecord, FeedbackRecord, OutcomeRecord
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.outcome import Outcome, Status
from policies.quality.model import QualityModel
from tests.deployments.fake_endpoint import FakeEndpoint, card, right, sums, sums_file, warm


class Ground:
    """A table with two warm models, an endpoint that answers for them, and a suite."""

    def __init__(self, folder: Path, endpoint: FakeEndpoint) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.models: set[str] = set()
        self.table = self.new_table()
        self.file = sums_file(folder)

    def new_table(self) -> Table:
        return Table(Store(f"sqlite:///{self.folder / 'store.sqlite3'}"))

    async def serve(self, *models: str, revision: str = "r1") -> None:
        for model in models:
            await self.table.register_model(card(model, revision))
            self.models.add(model)
        await self.push()

    async def push(self) -> None:
        for model in self.models:
            await self.table.push_replica(warm(model), [])

    async def keep_pushing(self) -> None:
        while True:
            await self.push()
            await asyncio.sleep(0.2)

    def config(self, **changes: Any) -> dict[str, Any]:
        base = {
            "endpoint": self.endpoint.url,
            "suites": [str(self.file)],
            "interval_s": 1.0,
            "give_up_s": 5.0,
        }
        return base | changes

    async def counts(self) -> Counter[str]:
        return Counter(r.model for r in await self.table.evaluations(None, None))


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with FakeEndpoint(right) as endpoint:
        ground = Ground(tmp_path, endpoint)
        endpoint.key = internal_credential(await ground.table.secret())
        await ground.serve("good", "poor")
        pushing = asyncio.create_task(ground.keep_pushing())
        yield ground
        pushing.cancel()


@pytest.fixture(autouse=True)
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The fit itself, without a task of its own; tests/integration/test_bounded_task.py has that.
    The numbers of answers that were fitted on."""
    made: list[int] = []

    async def fit(evaluations: list[EvaluationRecord], settings: object) -> QualityModel:
        made.append(len(evaluations))
        return await asyncio.to_thread(fit_quality, evaluations)

    monkeypatch.setattr("deployments.evaluation.evaluator.fit_task", fit)
    return made


async def until(condition: Any, timeout_s: float = 120.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_it_evaluates_reports_and_publishes_a_quality_model(ground: Ground) -> None:
    evaluator = Evaluator(ground.table)
    await evaluator.reconfigure(ground.config())

    async def published() -> bool:
        return "quality" in (await ground.table.snapshot("", 0, 0.0)).artifacts

    await until(published)
    await evaluator.stop()
    assert await ground.counts() == {"good": 12, "poor": 12}
    revision, data = await ground.table.artifact("quality")
    model = QualityModel.from_bytes(data)
    assert (model.revision, model.models) == (revision, ("good", "poor"))
    report = json.loads((await ground.table.artifact("evaluation"))[1])
    total = {c["model"]: c["accuracy"] for c in report["cells"] if c["task"] == "all"}
    assert total == {"good": 1.0, "poor": 0.5}
    assert set(report["resources"]) == {"good", "poor"}
    assert report["differences"][0]["difference"] == 0.5

    async def known() -> bool:
        row = (await ground.table.snapshot("", 0, 0.0)).models["good"]
        return "" in row.accuracy and row.accuracy[""].mean == 1.0

    await until(known)
    assert (await evaluator.status())["problems"] == []


async def test_a_model_that_comes_later_is_asked_first(ground: Ground) -> None:
    ground.endpoint.delay_s = 0.15
    evaluator = Evaluator(ground.table)
    await evaluator.reconfigure(ground.config(pace={"concurrency": 1}, interval_s=60.0))
    await until(lambda: _asked(ground, "good", 2))
    await ground.serve("new")
    await until(lambda: _asked(ground, "new", 1))
    assert sum(n for (model, _), n in ground.endpoint.asked.items() if model == "good") <= 5
    ground.endpoint.delay_s = 0.0

    async def complete() -> bool:
        return await ground.counts() == {"good": 12, "poor": 12, "new": 12}

    await until(complete)
    await evaluator.stop()


async def _asked(ground: Ground, model: str, count: int) -> bool:
    return sum(n for (name, _), n in ground.endpoint.asked.items() if name == model) >= count


async def test_a_changed_revision_is_evaluated_anew(ground: Ground) -> None:
    evaluator = Evaluator(ground.table)
    await evaluator.reconfigure(ground.config())
    await until(lambda: _complete(ground, {"good": 12, "poor": 12}))
    await ground.serve("poor", revision="r2")
    await until(lambda: _complete(ground, {"good": 12, "poor": 24}))
    await evaluator.stop()


async def _complete(ground: Ground, counts: dict[str, int]) -> bool:
    return await ground.counts() == counts


async def test_a_killed_evaluator_and_a_killed_table_leave_every_item_once(ground: Ground) -> None:
    ground.endpoint.delay_s = 0.05
    first = Evaluator(ground.table)
    await first.reconfigure(ground.config())
    await until(lambda: _asked(ground, "good", 5))
    await first.stop()
    await ground.table.close()
    ground.table = ground.new_table()
    await ground.serve("good", "poor")
    second = Evaluator(ground.table)
    await second.reconfigure(ground.config())
    await until(lambda: _complete(ground, {"good": 12, "poor": 12}))
    await second.stop()
    records = await ground.table.evaluations(None, None)
    assert len({(r.item, r.model) for r in records}) == 24


async def test_a_bad_suite_is_named_and_the_others_are_asked(ground: Ground) -> None:
    bad = ground.folder / "bad.jsonl"
    bad.write_text('{"task": "x"}\n')
    evaluator = Evaluator(ground.table)
    await evaluator.reconfigure(ground.config(suites=[str(bad), str(ground.file), "nowhere.jsonl"]))
    await until(lambda: _complete(ground, {"good": 12, "poor": 12}))
    status = await evaluator.status()
    await evaluator.stop()
    assert any("bad.jsonl:1: Give either 'prompt'" in problem for problem in status["problems"])
    assert any("nowhere.jsonl" in problem for problem in status["problems"])


async def test_the_days_budget_is_kept_and_said(ground: Ground) -> None:
    evaluator = Evaluator(ground.table)
    await evaluator.reconfigure(ground.config(budget={"tokens_per_day": 130}))
    await until(lambda: _asked(ground, "good", 2))

    async def said() -> bool:
        return any("budget" in problem for problem in (await evaluator.status())["problems"])

    await until(said)
    await asyncio.sleep(1.5)
    await evaluator.stop()
    records = await ground.table.evaluations(None, None)
    assert 0 < sum(r.prompt_tokens + r.output_tokens for r in records) <= 130
    assert len(records) < 24


async def test_without_suites_it_waits_and_bad_settings_change_nothing(ground: Ground) -> None:
    evaluator = Evaluator(ground.table)
    await evaluator.reconfigure(None)
    with pytest.raises(ValueError, match="did you mean 'suites'"):
        await evaluator.reconfigure({"suite": []})
    await asyncio.sleep(0.2)
    await evaluator.check_health()
    await evaluator.stop()
    assert not ground.endpoint.asked
    assert evaluator.settings == EvaluatorSettings()


async def test_a_wrong_key_is_a_problem_not_a_crash(ground: Ground) -> None:
    ground.endpoint.key = "another"
    evaluator = Evaluator(ground.table)
    await evaluator.reconfigure(ground.config())

    async def said() -> bool:
        return bool((await evaluator.status())["problems"])

    await until(said)
    await evaluator.check_health()
    await evaluator.stop()


async def test_votes_renew_the_model_without_another_fit(ground: Ground, fits: list[int]) -> None:
    evaluator = Evaluator(ground.table)
    await evaluator.reconfigure(ground.config(interval_s=1.0, fit={"votes_every_s": 1.0}))

    async def revision() -> str:
        return (await ground.table.snapshot("", 0, 0.0)).artifacts.get("quality", "")

    async def published() -> bool:
        return bool(await revision())

    await until(published)
    before = await revision()
    now_s = (await ground.table.evaluations(None, None))[0].finished_s
    decisions = [
        DecisionRecord(f"d{n}", now_s, f"k{n}", "auto", "", "poor", "formula", 1.0, 0.0, n) for n in range(30)
    ]
    outcomes = [OutcomeRecord(d.decision_id, now_s, "poor", "poor-0", Outcome(Status.OK)) for d in decisions]
    await ground.table.report_ingress("i", 1, {}, decisions, outcomes)
    for d in decisions:
        assert (
            await ground.table.feedback(FeedbackRecord(d.decision_id, d.key_id, "quality", 1.0, now_s))
            == "new"
        )

    async def renewed() -> bool:
        return await revision() != before

    await until(renewed)
    await evaluator.stop()
    assert len(fits) == len(set(fits))  # one for each number of answers


async def test_votes_are_joined_to_the_decisions_that_they_are_about(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.evaluation.evaluator.PAGE", 4)
    now_s = time.time()
    decisions = [
        DecisionRecord(f"d{n}", now_s - n, "k", "auto", "", "poor", "formula", 1.0, 0.0, n) for n in range(25)
    ]
    outcomes = [OutcomeRecord(d.decision_id, d.created_s, "poor", "p", Outcome(Status.OK)) for d in decisions]
    await ground.table.report_ingress("i", 1, {}, decisions, outcomes)
    for d in decisions[:10]:
        await ground.table.feedback(FeedbackRecord(d.decision_id, "k", "quality", 1.0, d.created_s))
    compared = FeedbackRecord("d20", "k", "quality", 0.0, now_s, detail="d21")
    await ground.table.feedback(compared)
    evaluator = Evaluator(ground.table)
    feedback = await evaluator._feedback()
    assert feedback[-1].received_s == now_s
    votes = await evaluator._votes(feedback, evaluator.settings)
    assert Counter(vote.score for vote in votes) == {1.0: 11, 0.0: 1}


async def test_a_session_asks_records_and_returns_its_records(ground: Ground) -> None:
    seen: list[int] = []
    suite = sums(ground.folder)
    session = Session(
        ground.table, ground.endpoint.url, ground.endpoint.key, [suite], ["good"], PaceSettings()
    )
    progress, records = await session.run(lambda p: seen.append(p.done))
    assert (progress.planned, progress.done, len(records), seen[-1]) == (12, 12, 12, 12)
    progress, records = await session.run(lambda p: None)
    assert (progress.planned, len(records)) == (0, 12)
    session.again = True
    progress, records = await session.run(lambda p: None)
    assert (progress.done, len(records)) == (12, 12)
    assert len(await ground.table.evaluations(None, None)) == 24


async def test_a_session_names_an_unknown_model(ground: Ground) -> None:
    session = Session(ground.table, ground.endpoint.url, ground.endpoint.key, [sums(ground.folder)], ["bad"])
    with pytest.raises(UnknownModelError, match=r"Model 'bad' is not in the pool\. In the pool: 'good'"):
        await session.run(lambda p: None)


def test_unchanged_models_are_asked_again_each_refresh_period() -> None:
    assert model_revision(card("m")) == "r1"
    periods = {model_revision(card("m"), 3600.0, now_s) for now_s in (0.0, 3599.0, 3600.0)}
    assert len(periods) == 2


def test_what_the_day_leaves_counts_only_the_last_24_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.evaluation.evaluator.time.time", lambda: 100_000.0)

    def record(finished_s: float) -> EvaluationRecord:
        return EvaluationRecord(
            "s",
            "1",
            "i",
            "t",
            "",
            "m",
            "r",
            1.0,
            prompt_tokens=10,
            output_tokens=5,
            cost_usd=0.1,
            finished_s=finished_s,
        )

    budget = BudgetSettings(tokens_per_day=100, usd_per_day=1.0)
    tokens, usd = left_today([record(1.0), record(99_000.0)], budget)
    assert (tokens, usd) == (85, pytest.approx(0.9))
    assert left_today([record(99_000.0)], BudgetSettings()) == (float("inf"), float("inf"))
