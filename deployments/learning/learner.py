"""The Serve deployment `Learner`: trains candidates, takes them through the gates, watches, rolls back."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from deployments.learning.candidate_job import JobInput, JobResult, job_apart
from deployments.learning.live_evidence import Finished, reference, seen, trial, usable
from deployments.learning.log_fits import fit_from_log
from deployments.learning.log_reader import LogReader, LogTable, newest
from deployments.learning.rollout import ReferenceState, RolloutState, TrialState
from deployments.learning.settings import LearnerSettings
from deployments.records.records import EvaluationRecord, PolicyEvent
from deployments.records.snapshot import Snapshot
from policies.decider import version_name
from policies.latency.model import LatencyModel
from policies.learned.checkpoint import CheckpointError
from policies.learned.policy import LearnedPolicy
from policies.policy import FormulaPolicy, Policy
from policies.promotion.alarms import Alarms
from policies.promotion.canary import Canary, CanaryState, Stage
from policies.utility import DEFAULT_BETA

logger = logging.getLogger("ray.serve")

EVALUATION_REST_S: Final = 20.0  # without a new graded item before a round counts as over
LATENCY_WINDOW_S: Final = 3_600.0
ALARM_WINDOW_S: Final = 3_600.0
LATENCY_REQUESTS: Final = 2_000

Job = Callable[[JobInput, LearnerSettings], Awaitable[JobResult]]


class LearnerTable(LogTable, Protocol):
    """What the learner needs of the performance table."""

    async def snapshot(self, boot_id: str, version: int, timeout_s: float) -> Snapshot: ...
    async def evaluations(self, suite: str | None, model: str | None) -> list[EvaluationRecord]: ...
    async def put_artifact(self, name: str, revision: str, data: bytes) -> None: ...
    async def artifact(self, name: str) -> tuple[str, bytes]: ...
    async def policy_state(self) -> dict[str, Any]: ...
    async def set_policy_state(self, state: dict[str, Any]) -> None: ...
    async def policy_event(self, event: PolicyEvent) -> None: ...


@dataclass(slots=True)
class _Watch:
    """What one stage of one version has shown so far."""

    key: tuple[int, str, float]
    reader: LogReader
    log: deque[Finished] = field(default_factory=lambda: deque(maxlen=5_000))
    canary: Canary | None = None
    alarms: Alarms | None = None


class Learner:
    """One replica. The table holds all of its state, so that it may die at any step and go on from there.

    Two loops: `watch` guards the active version and moves a candidate up or back, every few seconds;
    `learn` asks for a new candidate when there is new evidence. A canary's statistics are recomputed
    from the log since its start, which makes them the same after a restart.
    """

    def __init__(
        self,
        settings: LearnerSettings | None = None,
        table: LearnerTable | None = None,
        job: Job = job_apart,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or LearnerSettings()
        self._table: LearnerTable = table if table is not None else _connect()
        self._job = job
        self._clock = clock
        self.problem = ""  # why the last step did not end well, for status
        self._tasks: list[asyncio.Task[None]] = []
        self._policies: dict[int, Policy] = {}
        self._watches: dict[str, _Watch] = {}  # of the active version, and of the one on trial
        self._latency = LatencyModel()
        self._judged_s = self._latency_s = float("-inf")

    async def reconfigure(self, user_config: Mapping[str, Any] | None) -> None:
        """Take new settings; bad ones raise ValueError and leave the old in force."""
        self.settings = LearnerSettings.model_validate(user_config or {})
        self.start()

    async def check_health(self) -> None:
        """Serve's probe. Raises RuntimeError where a loop has ended."""
        self.start()
        for task in self._tasks:
            if task.done():
                raise RuntimeError(f"The learner's task '{task.get_name()}' has ended.")

    def start(self) -> None:
        """Run both loops for as long as this replica lives."""
        if not self._tasks:
            watch = self._every(self.watch, lambda: self.settings.watch_s)
            learn = self._every(self.learn, lambda: self.settings.look_s)
            self._tasks = [asyncio.create_task(watch, name="watch"), asyncio.create_task(learn, name="learn")]

    async def _every(self, step: Callable[[], Awaitable[None]], pause: Callable[[], float]) -> None:
        while True:
            try:
                if self.settings.enabled:
                    await step()
            except (OSError, ValueError, RuntimeError, LookupError) as error:
                # table away, job failed, artifact lost: again later
                self.problem = f"{type(error).__name__}: {error}"
                logger.warning("Learner: %s", self.problem)
            await asyncio.sleep(pause())

    # -- watching ---------------------------------------------------------------------------------

    async def watch(self) -> None:
        """One look at the live outcomes of the active version and of a candidate on trial."""
        state = await self._state()
        if state.paused:
            return
        if state.active is not None and state.reference is not None and await self._alarmed(state):
            return
        if state.candidate is not None and state.candidate.stage != "waiting":
            await self._watch_candidate(state, state.candidate)

    async def _watch_candidate(self, state: RolloutState, on_trial: TrialState) -> None:
        watch = self._watch_of(on_trial.version, on_trial.stage, on_trial.started_s)
        log = await watch.reader.fresh(self._clock())
        watch.log += log
        if on_trial.stage == "shadow":
            moved = await self._shadow(on_trial, watch)
        else:
            moved = await self._canary(state, on_trial, watch, log)
        if moved.stage is Stage.ROLLED_BACK:
            await self._roll_back(state.rolled_back(self._clock()), on_trial.version, moved.reason)
        elif moved.stage is Stage.PROMOTED:
            await self._promote(state, list(watch.log))
        elif moved.stage is Stage.CANARY:
            await self._step(state, on_trial, moved)

    async def _step(self, state: RolloutState, on_trial: TrialState, moved: CanaryState) -> None:
        """Save the canary's share where it changed."""
        share = moved.share(self.settings.canary.value())
        if on_trial.stage == "canary" and share == on_trial.share:
            return
        now = self._clock()
        started_s = on_trial.started_s if on_trial.stage == "canary" else now
        step = on_trial.replace(
            stage="canary", share=share, step=moved.step, started_s=started_s, since_s=now
        )
        await self._save(state.replace(candidate=step))
        await self._tell(on_trial.version, "canary", {"step": moved.step, "share": share})

    async def _shadow(self, on_trial: TrialState, watch: "_Watch") -> CanaryState:
        """Recompute what the candidate would have chosen: it must be usable for every request."""
        canary = Canary(CanaryState(on_trial.version, Stage.SHADOW), self.settings.canary.value())
        policy = await self._policy(on_trial.version)
        bad = sum(not usable(policy, one) for one in watch.log)
        return canary.shadow_seen(len(watch.log), bad, 1.0, self._clock())

    async def _canary(
        self, state: RolloutState, on_trial: TrialState, watch: "_Watch", log: Sequence[Finished]
    ) -> CanaryState:
        """The canary over everything that finished since it began; its step as the ingress has it."""
        if watch.canary is None:
            start = CanaryState(on_trial.version, Stage.CANARY, on_trial.step, on_trial.since_s)
            watch.canary = Canary(start, self.settings.canary.value())
        incumbent, now = await self._policy(state.active), self._clock()
        for one in log:
            usual = incumbent.probabilities(one.observation)
            watch.canary.finished(trial(one, on_trial.version, usual), now)
        return watch.canary.state

    async def _alarmed(self, state: RolloutState) -> bool:
        """Whether the active version went bad, and was rolled back."""
        assert state.active is not None
        assert state.reference is not None
        watch = self._watch_of(state.active, "active", state.promoted_s)
        if watch.alarms is None:
            watch.alarms = Alarms(state.reference.value(), self.settings.alarms.value())
        for one in await watch.reader.fresh(self._clock()):
            if one.record.decider.version == state.active:
                reason = watch.alarms.update(seen(one))
                if reason is not None:
                    await self._roll_back(state.reverted(self._clock()), state.active, reason)
                    return True
        return False

    def _watch_of(self, version: int, stage: str, since_s: float) -> "_Watch":
        """The running statistics of the active version or of a candidate's stage.

        Begun anew from the log when that changes; of the active version only the last hour's counts then.
        """
        side, key = "active" if stage == "active" else "trial", (version, stage, since_s)
        watch = self._watches.get(side)
        if watch is None or watch.key != key:
            if side == "active":
                since_s = max(since_s, self._clock() - ALARM_WINDOW_S)
            reader = LogReader(self._table, since_s, self.settings.target_s, self.settings.settle_s)
            watch = self._watches[side] = _Watch(key, reader)
        return watch

    # -- learning ---------------------------------------------------------------------------------

    async def learn(self) -> None:
        """One look for evidence that asks for a new candidate, or lets a waiting one be judged again."""
        now = self._clock()
        self.problem = ""
        if now - self._latency_s >= self.settings.latency_every_s:
            self._latency_s = now
            await self._publish_latency(now)
        state = await self._state()
        rests = state.frozen_since_s is not None and now - state.frozen_since_s < self.settings.cooldown_s
        on_trial = state.candidate is not None and state.candidate.stage != "waiting"
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
        new_items = sum(record.finished_s > state.trained_s for record in evaluations)
        due = new_items >= self.settings.min_new_items or now - state.trained_s >= self.settings.retrain_s
        if state.candidate is None and not due:
            return
        self._judged_s = now
        waiting = state.candidate.version if state.candidate is not None and not due else None
        result = await self._run(state, evaluations, waiting)
        await self._judged(result, now, waiting)

    async def _publish_latency(self, now_s: float) -> None:
        """Bring the latency model up to date with the newest part of the log."""
        log = await newest(self._table, now_s - LATENCY_WINDOW_S, LATENCY_REQUESTS)
        if len(log) < self.settings.min_latency_requests:
            return
        fitted = await asyncio.to_thread(fit_from_log, log, self._latency, f"{now_s:.0f}")
        self._latency = fitted
        await self._table.put_artifact("latency", fitted.revision, fitted.to_bytes())

    async def _run(
        self, state: RolloutState, evaluations: list[EvaluationRecord], waiting: int | None
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
            candidate=await self._checkpoint(waiting),
            incumbent=await self._checkpoint(state.active),
        )
        return await self._job(data, self.settings)

    async def _judged(self, result: JobResult, looked_s: float, waiting: int | None) -> None:
        """Keep the verdicts on what was known at `looked_s`.

        A candidate that passed goes into shadow, one short of evidence waits.
        """
        if result.missing:
            self.problem = result.missing
            logger.info("Learner: %s", result.missing)
            return
        state = await self._state()  # it may have moved while the job ran
        if state.frozen_since_s is not None and state.frozen_since_s > looked_s:
            self.problem = "The candidate is left: it was trained on evidence from before a rollback."
            return
        version = waiting or state.last_version + 1
        if waiting is None:
            state = state.replace(last_version=version)
            await self._save(state)  # first: after a kill the number is not given to another candidate
            await self._table.put_artifact(f"policy:{version}", str(version), result.checkpoint)
            logger.info("Version %d was trained on a simulator from: %s.", version, result.simulator)
            trained = {"items": result.items, "curve": result.curve[-1:], "simulator": result.simulator}
            await self._tell(version, "trained", trained)
        for verdict in result.verdicts:
            await self._tell(version, "verdict", asdict(verdict))
        last = result.verdicts[-1]
        now = self._clock()
        state = state.replace(trained_s=looked_s, candidate=None)
        if last.passed:
            on_trial = TrialState(version=version, stage="shadow", started_s=now, since_s=now)
            state = state.replace(candidate=on_trial, frozen_since_s=None)
            await self._tell(version, "shadow", {})
        elif last.needs_evidence:
            state = state.replace(candidate=TrialState(version=version, stage="waiting", since_s=now))
        await self._save(state)

    # -- moving -----------------------------------------------------------------------------------

    async def _promote(self, state: RolloutState, log: Sequence[Finished]) -> None:
        assert state.candidate is not None
        version = state.candidate.version
        others = [one for one in log if one.record.decider.version != version]
        yardstick = reference(others) or reference(log)
        kept = ReferenceState(**asdict(yardstick)) if yardstick is not None else None
        await self._save(state.promoted(self._clock(), kept))
        await self._tell(version, "promoted", {"before": state.active})

    async def _roll_back(self, state: RolloutState, version: int | None, reason: str) -> None:
        await self._save(state)
        logger.warning("Policy '%s' is rolled back: %s", version_name(version), reason)
        await self._tell(version or 0, "rolled_back", {"reason": reason})

    # -- the table --------------------------------------------------------------------------------

    async def _state(self) -> RolloutState:
        return RolloutState.read(await self._table.policy_state())

    async def _save(self, state: RolloutState) -> None:
        await self._table.set_policy_state(state.model_dump(mode="json"))

    async def _tell(self, version: int, kind: str, detail: Mapping[str, object]) -> None:
        await self._table.policy_event(PolicyEvent(version, self._clock(), kind, detail))

    async def _checkpoint(self, version: int | None) -> bytes:
        return b"" if version is None else (await self._table.artifact(f"policy:{version}"))[1]

    async def _policy(self, version: int | None) -> Policy:
        """The policy of a version; the formula for None and for one that can no longer be loaded."""
        if version is None:
            return FormulaPolicy()
        if version not in self._policies:
            try:
                self._policies = {version: LearnedPolicy.from_bytes(await self._checkpoint(version))}
            except (CheckpointError, KeyError) as error:
                logger.error(
                    "Policy '%s' cannot be loaded, the formula stands in: %s", version_name(version), error
                )
                return FormulaPolicy()
        return self._policies[version]

    async def status(self) -> dict[str, Any]:
        """What an operator may want to know."""
        return {"enabled": self.settings.enabled, "problem": self.problem}


def _connect() -> LearnerTable:
    """The table on the Ray cluster that this process belongs to."""
    from deployments.table.actor import RayTable, get_or_create_table

    return RayTable(get_or_create_table())
