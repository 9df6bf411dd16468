"""The Serve deployment `Learner`: trains candidates, takes them through the gates, watches, rolls back."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from deployments.background import Background
from deployments.learning.candidate_job import JobInput, JobResult, job_task
from deployments.learning.log_fits import fit_from_log
from deployments.learning.log_reader import newest
from deployments.learning.rollout import Rollout
from deployments.learning.settings import LearnerSettings
from deployments.learning.watch import Watch
from deployments.logger import get_logger
from deployments.records.records import EvaluationRecord
from deployments.steady_clock import wall_s
from deployments.table.api import TableApi
from deployments.table.connect import join_table
from policies.latency.model import LatencyModel
from policies.promotion.gates import GAIN_GATE, LOG_GATE, Verdict
from policies.promotion.rollout import Candidate, RolloutState, Stage
from policies.promotion.spending import level
from policies.utility import DEFAULT_BETA

logger = get_logger(__name__)

EVALUATION_REST_S: Final = 20.0  # without a new graded item before a round counts as over
LATENCY_WINDOW_S: Final = 3_600.0
LATENCY_REQUESTS: Final = 2_000

RETRY_S: Final = (1.0, 30.0)  # pauses after a failed step: table away, job failed, artifact lost

Job = Callable[[JobInput, LearnerSettings], Awaitable[JobResult]]


class Learner:
    """One replica. The table holds all of its state, so that it may die at any step and go on from there.

    Two loops: `watch` guards the active version and moves a candidate up or back, every few seconds;
    `learn` asks for a new candidate when there is new evidence.
    """

    def __init__(
        self,
        settings: LearnerSettings | None = None,
        table: TableApi | None = None,
        job: Job = job_task,
        clock: Callable[[], float] = wall_s,
    ) -> None:
        self.settings = settings or LearnerSettings()
        self._table: TableApi = table if table is not None else join_table()
        self._job = job
        self._clock = clock
        self.problem = ""  # why the last step did not end well, for status
        self._background = Background("learner", RETRY_S)
        self._rollout = Rollout(self._table, clock)
        self._watch = Watch(self._rollout, self._table, self.settings, clock)
        self._latency = LatencyModel()
        self._judged_s = self._latency_s = float("-inf")

    async def reconfigure(self, user_config: Mapping[str, Any] | None) -> None:
        """Take new settings; bad ones raise ValueError and leave the old in force."""
        self.settings = LearnerSettings.model_validate(user_config or {})
        self.start()

    async def check_health(self) -> None:
        """Serve's probe. Raises RuntimeError where a loop has ended."""
        self.start()
        self._background.check()

    def start(self) -> None:
        """Run both loops for as long as this replica lives."""
        if not self._background.running:
            watch, learn = self._turn(self.watch), self._turn(self.learn)
            self._background.repeat("watch", watch, lambda: asyncio.sleep(self.settings.watch_s))
            self._background.repeat("learn", learn, lambda: asyncio.sleep(self.settings.look_s))

    def _turn(self, step: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """The step where learning is on; `problem` says why it failed."""

        async def turn() -> None:
            try:
                if self.settings.enabled:
                    await step()
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"
                raise

        return turn

    async def watch(self) -> None:
        """One look at live outcomes."""
        self._watch.settings = self.settings
        await self._watch.look()

    async def learn(self) -> None:
        """One look for evidence that asks for a new candidate, or lets a waiting one be judged again."""
        now = self._clock()
        self.problem = ""
        if now - self._latency_s >= self.settings.latency_every_s:
            self._latency_s = now
            await self._publish_latency(now)
        state = await self._rollout.state()
        rests = state.frozen_since_s is not None and now - state.frozen_since_s < self.settings.cooldown_s
        on_trial = state.candidate is not None and state.candidate.on_trial
        if state.paused or rests or on_trial or now - self._judged_s < self.settings.retry_s:
            return
        evaluations = await self._table.evaluations(None, None)
        if now - max((record.finished_s for record in evaluations), default=0.0) < EVALUATION_REST_S:
            return  # a round is under way: its items come first
        if len(evaluations) < self.settings.min_new_items and state.candidate is None:
            self.problem = (
                f"{len(evaluations)} graded answers, {self.settings.min_new_items} ask for a candidate."
            )
            return
        due, waiting = await self._due(state, evaluations, now)
        if not due:
            return
        self._judged_s = now
        test = self._test(state, evaluations, waiting)
        result = await self._run(state, evaluations, waiting, test)
        await self._judged(result, now, waiting, test)

    async def _due(
        self, state: RolloutState, evaluations: Sequence[EvaluationRecord], now_s: float
    ) -> tuple[bool, Candidate | None]:
        """Whether there is something new to judge, and the waiting candidate where it is judged again.

        Nothing is judged twice on the same evidence.
        """
        waiting, settings = state.candidate, self.settings
        stale = now_s - state.trained_s >= settings.retrain_s
        if waiting is None or stale:
            return stale or self._has_items(evaluations, state.trained_s), None
        if self._has_items(evaluations, waiting.started_s):
            return True, waiting
        wanted = int(settings.gates.min_effective_sample_size)
        is_longer = len(await newest(self._table, waiting.started_s, wanted)) >= wanted
        return waiting.reason == LOG_GATE and is_longer, waiting

    def _has_items(self, evaluations: Sequence[EvaluationRecord], after_s: float) -> bool:
        """Whether enough was graded after that time for another look."""
        return sum(record.finished_s > after_s for record in evaluations) >= self.settings.min_new_items

    def _test(
        self, state: RolloutState, evaluations: Sequence[EvaluationRecord], waiting: Candidate | None
    ) -> int:
        """Number of the test for a gain: that of a waiting candidate, where only the log is new."""
        if waiting is not None and waiting.test and not self._has_items(evaluations, waiting.started_s):
            return waiting.test
        return state.tests + 1

    async def _publish_latency(self, now_s: float) -> None:
        """Bring the latency model up to date with the newest part of the log."""
        log = await newest(self._table, now_s - LATENCY_WINDOW_S, LATENCY_REQUESTS)
        if len(log) < self.settings.min_latency_requests:
            return
        fitted = await asyncio.to_thread(fit_from_log, log, self._latency, f"{now_s:.0f}")
        self._latency = fitted
        await self._table.put_artifact("latency", fitted.revision, fitted.to_bytes())

    async def _run(
        self,
        state: RolloutState,
        evaluations: list[EvaluationRecord],
        waiting: Candidate | None,
        test: int,
    ) -> JobResult:
        # After a rollback only a log that began later is clean evidence.
        after_s = state.frozen_since_s or 0.0
        data = JobInput(
            snapshot=await self._table.snapshot("", 0, 0.0),
            evaluations=evaluations,
            transitions=await newest(self._table, after_s, self.settings.log_limit),
            feedback=await self._table.feedback_records(after_s),
            settings=self.settings.model_dump_json().encode(),
            beta=DEFAULT_BETA,
            level=level(self.settings.false_promotions, test),
            candidate=await self._rollout.checkpoint(None if waiting is None else waiting.version),
            incumbent=await self._rollout.checkpoint(state.active),
            version=state.last_version + 1 if waiting is None else waiting.version,
        )
        return await self._job(data, self.settings)

    async def _judged(self, result: JobResult, looked_s: float, waiting: Candidate | None, test: int) -> None:
        """Keep the verdicts on what was known at `looked_s`.

        A candidate that passed goes into shadow, one short of evidence waits.
        """
        if result.missing:
            self.problem = result.missing
            logger.info("Learner: %s", result.missing)
            return
        state = await self._rollout.state()  # it may have moved while the job ran
        if state.frozen_since_s is not None and state.frozen_since_s > looked_s:
            self.problem = "The candidate is left: it was trained on evidence from before a rollback."
            return
        version = await self._trained(result) if waiting is None else waiting.version
        for verdict in result.verdicts:
            await self._rollout.record(version, "verdict", asdict(verdict))
        is_tested = any(verdict.gate == GAIN_GATE for verdict in result.verdicts)
        await self._rollout.judged(
            self._after(version, result.verdicts, looked_s, test if is_tested else 0),
            looked_s if waiting is None else state.trained_s,
            max(state.tests, test) if is_tested else state.tests,
        )

    def _after(
        self, version: int, verdicts: Sequence[Verdict], looked_s: float, test: int
    ) -> Candidate | None:
        """The candidate as its verdicts leave it; None where it is refused."""
        now_s, last = self._clock(), verdicts[-1]
        if last.passed:
            return Candidate(
                version,
                Stage.SHADOW,
                started_s=now_s,
                since_s=now_s,
                test=test,
                level=level(self.settings.false_promotions, max(test, 1)) / 2.0,
                owes_gain=any(verdict.owes_gain for verdict in verdicts),
            )
        if last.needs_evidence:
            return Candidate(
                version, Stage.WAITING, started_s=looked_s, since_s=now_s, reason=last.gate, test=test
            )
        return None

    async def _trained(self, result: JobResult) -> int:
        told = {"items": result.items, "curve": result.curve[-1:], "simulator": result.simulator}
        version = await self._rollout.new_version(result.checkpoint, told)
        logger.info("Version %d was trained on a simulator from: %s.", version, result.simulator)
        return version

    async def status(self) -> dict[str, Any]:
        """What an operator may want to know."""
        return {"enabled": self.settings.enabled, "problem": self.problem}
