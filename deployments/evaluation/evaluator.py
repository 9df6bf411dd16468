"""The Serve deployment `Evaluator`: asks what was not asked yet, and publishes what follows from it."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from deployments.background import Background
from deployments.bounded_task import TaskError
from deployments.evaluation.client import EvaluationClient
from deployments.evaluation.endpoint import live_endpoint
from deployments.evaluation.pace import Pace
from deployments.evaluation.report import differences, summarise, to_json
from deployments.evaluation.resource_use import ResourceUse
from deployments.evaluation.run import (
    EvaluationRun,
    Job,
    Progress,
    affordable,
    missing,
    ungradable,
)
from deployments.evaluation.settings import BudgetSettings, EvaluatorSettings
from deployments.keys.internal import internal_credential
from deployments.learning.quality_fit import fit_task, votes_of, with_feedback
from deployments.logger import get_logger
from deployments.records.records import (
    DecisionRecord,
    EvaluationRecord,
    FeedbackRecord,
    OutcomeRecord,
    latest,
)
from deployments.records.snapshot import ModelCard, Snapshot
from deployments.suites.suite import Suite, SuiteError, load_suite
from deployments.table.api import TableApi
from deployments.table.connect import join_table
from deployments.table.follow import Follower
from policies.quality.model import QualityModel
from policies.quality.votes import Vote

logger = get_logger(__name__)

DAY_S: Final = 86_400.0
FEEDBACK_WINDOW_S: Final = 14 * DAY_S
PAGE: Final = 2_000  # decisions that votes are about, in one message
MOST_VOTES: Final = 10_000  # the newest; each costs a few kilobytes and a third of a millisecond


class Evaluator:
    """One replica. Each look at the pool is a round that asks what is missing; the fit follows beside it."""

    def __init__(self, table: TableApi | None = None) -> None:
        """`table` is found on Ray when not given; it knows the endpoint, and what lets the evaluator in."""
        self._table: TableApi = table if table is not None else join_table()
        self.settings = EvaluatorSettings()
        self.pace = Pace(self.settings.pace)
        self.progress = Progress()
        self.problems: list[str] = []
        self.rounds = 0
        self._use = ResourceUse()
        self._run: EvaluationRun | None = None
        self._fitted, self._fitted_at_s = (-1, 0.0), float("-inf")  # answers, the last vote, and when
        self._base: QualityModel | None = None  # fitted on the answers alone
        self._look, self._news = asyncio.Event(), asyncio.Event()
        self._follower = Follower(self._table)
        self._background = Background("evaluator")

    async def reconfigure(self, user_config: Mapping[str, Any] | None) -> None:
        """Take `user_config` live; a round under way ends and goes on under it. Raises ValueError."""
        self.settings = EvaluatorSettings.model_validate(user_config or {})
        self.pace.settings = self.settings.pace
        self._restart()
        self.start()

    async def check_health(self) -> None:
        """Serve's probe. Raises RuntimeError where the work has stopped."""
        self.start()
        self._background.check()

    async def status(self) -> dict[str, Any]:
        """How far it is."""
        p = self.progress
        return {
            "rounds": self.rounds,
            "planned": p.planned,
            "done": p.done,
            "asked": p.asked,
            "gave_way": p.gave_way,
            "left": dict(p.left),
            "waiting": dict(p.reasons),
            "problems": self.problems,
        }

    def start(self) -> None:
        """Begin the background work, once."""
        if not self._background.running:
            self._background.repeat("snapshots", self._follow)
            self._background.repeat("rounds", self._work, self._round_due)
            self._background.repeat("fits", self._learn, self._fit_due)

    async def stop(self) -> None:
        """End the background work; what was graded is recorded."""
        await self._background.close()

    async def round(self) -> Progress:
        """Ask what is missing, as far as the budget reaches."""
        settings = self.settings
        suites = await asyncio.to_thread(self._suites, settings)
        cards = self._cards(settings)
        if not suites or not cards:
            return Progress()
        records = await self._table.evaluations(None, None)
        jobs = missing(suites, cards, lambda card: model_revision(card, settings.refresh_s), records)
        self.problems += ungradable(suites)
        tokens, usd = left_today(records, settings.budget)
        taken = affordable(jobs, cards, tokens, usd)
        if len(taken) < len(jobs):
            self.problems.append(f"The day's budget is used up: {len(jobs) - len(taken)} questions wait.")
        if taken:
            await self._ask(taken, cards, settings)
        return self.progress

    async def _ask(
        self, jobs: Sequence[Job], cards: Mapping[str, ModelCard], settings: EvaluatorSettings
    ) -> None:
        credential = internal_credential(await self._table.secret())
        client = EvaluationClient(
            lambda: live_endpoint(settings.endpoint, self.pace.snapshot), credential, settings.request_s
        )
        self._run = EvaluationRun(self._table, client, cards, self.pace, settings.give_up_s)
        self.progress = self._run.progress
        logger.info("Evaluation of %d questions begins.", len(jobs))
        try:
            await self._run.run(jobs)
        finally:
            self._run = None
            await client.close()
        logger.info("Evaluation round: %d of %d questions answered.", self.progress.done, len(jobs))

    async def publish(self) -> None:
        """Report and quality model as artifacts, where answers are new, or votes are and it is their time."""
        settings = self.settings
        records = await self._table.evaluations(None, None)
        feedback = await self._feedback()
        voted_s = feedback[-1].received_s if feedback else 0.0
        due = time.monotonic() - self._fitted_at_s >= settings.fit.votes_every_s
        if (
            not records
            or self._fitted == (len(records), voted_s)
            or (len(records) == self._fitted[0] and not due)
        ):
            return
        votes = await self._votes(feedback, settings)
        newest = latest(records)
        report = to_json(summarise(newest), differences(newest)) | {"resources": self._use.report()}
        await self._table.put_artifact("evaluation", f"{time.time():.0f}", json.dumps(report).encode())
        try:
            if self._base is None or len(records) != self._fitted[0]:
                self._base = await fit_task(records, settings.fit)
        except (TaskError, TimeoutError) as error:
            self.problems.append(f"Quality model not renewed: {error}")
            logger.error("Quality model not renewed, the last one stays: %s", error)
            return
        half_life_s = settings.fit.vote_half_life_s
        model = await asyncio.to_thread(with_feedback, self._base, records, votes, time.time(), half_life_s)
        await self._table.put_artifact("quality", model.revision, model.to_bytes())
        self._fitted, self._fitted_at_s = (len(records), voted_s), time.monotonic()
        logger.info("Quality model '%s': %d answers, %d votes.", model.revision, len(records), len(votes))

    async def _feedback(self) -> list[FeedbackRecord]:
        """The newest votes, the last one last."""
        feedback = await self._table.feedback_records(time.time() - FEEDBACK_WINDOW_S)
        return sorted(feedback, key=lambda record: record.received_s)[-MOST_VOTES:]

    async def _votes(self, feedback: Sequence[FeedbackRecord], settings: EvaluatorSettings) -> list[Vote]:
        """Votes with what they are about."""
        wanted = {record.decision_id for record in feedback}
        named = sorted(wanted.union(record.detail for record in feedback if record.detail is not None))
        pairs: list[tuple[DecisionRecord, OutcomeRecord | None]] = []
        for start in range(0, len(named), PAGE):
            pairs += await self._table.transitions_of(named[start : start + PAGE])
        return votes_of(feedback, pairs, settings.fit.feedback_metrics)

    def _suites(self, settings: EvaluatorSettings) -> list[Suite]:
        """The suites that can be read; of the others the error is kept and logged."""
        suites, problems = [], []
        for path in settings.paths():
            try:
                suites.append(load_suite(path))
            except (SuiteError, OSError) as error:
                problems.append(str(error))
                logger.error("Suite left out: %s", error)
        self.problems = problems
        return suites

    def _cards(self, settings: EvaluatorSettings) -> dict[str, ModelCard]:
        return {card.model: card for card in _chat_cards(self.pace.snapshot, settings.models)}

    async def _work(self) -> None:
        """A round; the next one comes after the interval, and at once when something changed."""
        self._look.clear()
        await self._try(self.round, "Evaluation round")
        self.rounds += 1
        self._news.set()

    async def _round_due(self) -> None:
        await _either(self._look, self.settings.interval_s)

    async def _learn(self) -> None:
        """What follows from the answers, beside the rounds: a fit takes its time."""
        self._news.clear()
        await self._try(self.publish, "Report and quality model")

    async def _fit_due(self) -> None:
        await _either(self._news, self.settings.interval_s)

    async def _try(self, work: Callable[[], Awaitable[object]], name: str) -> None:
        """Whatever a round raised, the next one goes on where it ended, after the usual interval."""
        try:
            await work()
        except Exception as error:  # table or endpoint unreachable, or a defect: report it, go on
            self.problems.append(f"{name}: {type(error).__name__}: {error}")
            logger.exception("%s ended early; the next one goes on from there.", name)

    async def _follow(self) -> None:
        snapshot = await self._follower.next()
        before = _revisions(self.pace.snapshot, self.settings)
        self.pace.see(snapshot)
        self._use.see(snapshot)
        if _revisions(snapshot, self.settings) - before:
            self._restart()  # what is new or changed comes first

    def _restart(self) -> None:
        if self._run is not None:
            self._run.stop()
        self._look.set()


async def _either(event: asyncio.Event, timeout_s: float) -> None:
    """Returns when the event is set, at the latest after `timeout_s`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()


def model_revision(card: ModelCard, refresh_s: float | None = None, now_s: float | None = None) -> str:
    """What answers are kept under: the card's revision, and with `refresh_s` the period it is in."""
    if refresh_s is None:
        return card.revision
    return f"{card.revision}@{int((time.time() if now_s is None else now_s) // refresh_s)}"


def left_today(records: Sequence[EvaluationRecord], budget: BudgetSettings) -> tuple[float, float]:
    """Tokens and dollars that the last 24 hours' evaluations leave of the budget; infinite without one."""
    since_s = time.time() - DAY_S
    recent = [record for record in records if record.finished_s > since_s]
    tokens = sum(record.prompt_tokens + record.output_tokens for record in recent)
    usd = sum(record.cost_usd for record in recent)
    return (
        float("inf") if budget.tokens_per_day is None else budget.tokens_per_day - tokens,
        float("inf") if budget.usd_per_day is None else budget.usd_per_day - usd,
    )


def _chat_cards(snapshot: Snapshot | None, models: Sequence[str] | None) -> Iterator[ModelCard]:
    for name, row in snapshot.models.items() if snapshot is not None else ():
        if "chat" in row.card.capabilities and (models is None or name in models):
            yield row.card


def _revisions(snapshot: Snapshot | None, settings: EvaluatorSettings) -> set[tuple[str, str]]:
    return {(card.model, card.revision) for card in _chat_cards(snapshot, settings.models)}
