"""Watches live outcomes: alarms of the active version, shadow and canary of a candidate."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from deployments.learning.live_evidence import Finished, compared, sliced, usable
from deployments.learning.log_reader import LogReader
from deployments.learning.rollout import Rollout
from deployments.learning.settings import LearnerSettings
from deployments.logger import get_logger
from deployments.records.graded import graded_pairs
from deployments.table.api import TableApi
from policies.decider import version_name
from policies.promotion.alarms import Alarms, SliceAlarm
from policies.promotion.canary import Canary
from policies.promotion.rollout import Candidate, RolloutState, Stage

logger = get_logger(__name__)

ALARM_WINDOW_S: Final = 3_600.0
_MOST_REQUESTS: Final = 5_000  # last requests of a candidate's stage
_PAIR_S: Final = 60.0  # within which both halves of a graded pair are stored
_UNMATCHED: Final = 20.0  # times the requests after which one of the version before was to come


@dataclass(slots=True)
class _Look:
    """What one stage of one version has shown so far."""

    key: tuple[int, str, float]
    reader: LogReader
    voted: LogReader  # the same requests, later, when votes on them are in
    requests: deque[Finished] = field(default_factory=lambda: deque(maxlen=_MOST_REQUESTS))
    canary: Canary | None = None
    graded_s: float = 0.0  # when the newest vote that was read came
    graded: set[str] = field(default_factory=set)  # decisions whose pairs the canary has
    alarms: tuple[Alarms, ...] = ()  # at once, and when votes are in
    slices: SliceAlarm | None = None  # when votes are in


class Watch:
    """Reads what finished since the last look, and moves the rollout where the evidence says so.

    Statistics are recomputed from the log since a stage's start, which makes them the same after a restart.
    """

    def __init__(
        self, rollout: Rollout, table: TableApi, settings: LearnerSettings, clock: Callable[[], float]
    ) -> None:
        self.settings = settings
        self._rollout = rollout
        self._table = table
        self._clock = clock
        self._active: _Look | None = None
        self._trial: _Look | None = None

    async def look(self) -> None:
        """One look at the active version and at a candidate on trial."""
        state = await self._rollout.state()
        if state.paused or await self._alarmed(state):
            return
        candidate = state.candidate
        if candidate is not None and candidate.on_trial:
            await self._look_at(state, candidate)

    async def _look_at(self, state: RolloutState, candidate: Candidate) -> None:
        key = candidate.version, candidate.stage.value, candidate.started_s
        if self._trial is None or self._trial.key != key:
            self._trial = _Look(key, *self._readers(candidate.started_s))
        look = self._trial
        fresh = await look.reader.fresh(self._clock())
        look.requests += fresh
        if candidate.stage is Stage.SHADOW:
            moved = await self._shadow(candidate, look)
        else:
            moved = await self._canary(state, candidate, look, fresh)
        if moved.stage is Stage.ROLLED_BACK:
            await self._rollout.roll_back(candidate.version, moved.reason)
        elif moved.stage is Stage.PROMOTED:
            await self._rollout.promote(candidate.version)
        elif moved != candidate:
            await self._rollout.move(moved)

    async def _shadow(self, candidate: Candidate, look: _Look) -> Candidate:
        """Recompute what the candidate would have chosen: it must be usable for every request."""
        policy = await self._rollout.policy(candidate.version)
        unusable = sum(not usable(policy, one) for one in look.requests)
        canary, now_s = Canary(candidate, self.settings.canary), self._clock()
        longest_s, rate_per_s = _pace(look.requests, now_s)
        canary.shadowed(len(look.requests), unusable, now_s, longest_s, rate_per_s)
        return canary.looked(now_s)

    async def _canary(
        self, state: RolloutState, candidate: Candidate, look: _Look, fresh: Sequence[Finished]
    ) -> Candidate:
        """The canary over everything that finished since it began; its slices as the ingress has them."""
        if look.canary is None:
            look.canary = Canary(candidate, self.settings.canary)
        canary, now_s, sides = look.canary, self._clock(), (candidate.version, state.active or 0)
        for one in await look.voted.fresh(now_s):
            if one.record.charged_version in sides:
                canary.with_votes(sliced(one, candidate.version))
        for one in fresh:
            if one.record.charged_version in sides:
                canary.finished(sliced(one, candidate.version))
        await self._graded(candidate, look, canary)
        return canary.looked(now_s, look.reader.complete_s, look.voted.complete_s)

    async def _graded(self, candidate: Candidate, look: _Look, canary: Canary) -> None:
        """Give the canary the pairs that were graded since the last look."""
        records = await self._table.feedback_records(max(look.graded_s - _PAIR_S, candidate.started_s))
        look.graded_s = max([look.graded_s, *(record.received_s for record in records)])
        for decision, pair in graded_pairs(records, candidate.version).items():
            if decision not in look.graded:
                look.graded.add(decision)
                canary.graded(pair)

    async def _alarmed(self, state: RolloutState) -> bool:
        """Whether the active version went bad and was rolled back; after a restart the last hour counts."""
        if state.active is None:
            return False
        await self._rollout.leave_yardstick(self.settings.alarms.yardstick_share)
        key = state.active, "active", state.promoted_s
        if self._active is None or self._active.key != key:
            since_s = max(state.promoted_s, self._clock() - ALARM_WINDOW_S)
            wanted = self.settings.alarms
            alarms, slices = (Alarms(wanted), Alarms(wanted)), SliceAlarm(wanted)
            self._active = _Look(key, *self._readers(since_s), alarms=alarms, slices=slices)
        reason = await self._alarm(state, state.active, self._active)
        if reason is not None:
            await self._rollout.roll_back(state.active, reason)
        return reason is not None

    async def _alarm(self, state: RolloutState, active: int, look: _Look) -> str | None:
        """The first alarm among the requests that ended since the last look, or on which votes came."""
        for reader, alarms in zip((look.reader, look.voted), look.alarms, strict=True):
            fresh = await reader.fresh(self._clock())
            sides = [one for one in fresh if one.record.charged_version in (active, state.previous or 0)]
            reason = await self._of_requests(state, active, alarms, sides)
            if reader is look.voted:
                reason = reason or self._of_slices(state, look, sides)
            if reason is not None:
                return reason
        return None

    async def _of_requests(
        self, state: RolloutState, active: int, alarms: Alarms, ended: Sequence[Finished]
    ) -> str | None:
        """The alarms on requests of the same time."""
        before = await self._rollout.policy(state.previous)
        for one in ended:
            if one.is_shed:
                continue
            reason = alarms.update(compared(one, active, before.probabilities(one.observation)))
            if reason is not None:
                return reason
        if alarms.unmatched * self.settings.alarms.yardstick_share > _UNMATCHED:
            logger.warning(
                "The alarms of '%s' rest: none of its last %d requests was left to '%s'.",
                version_name(active), alarms.unmatched, version_name(state.previous),
            )  # fmt: skip
        return None

    @staticmethod
    def _of_slices(state: RolloutState, look: _Look, ended: Sequence[Finished]) -> str | None:
        """The alarm on slices of time."""
        before = state.yardstick
        if before is None or look.slices is None:
            return None
        for one in ended:
            look.slices.finished(before, sliced(one, before.version))
        return look.slices.looked(before, look.voted.complete_s)

    def _readers(self, since_s: float) -> tuple[LogReader, LogReader]:
        """Of requests as soon as they have ended, and of the same ones when votes have had their time."""
        table, now = self._table, self.settings
        at_once = LogReader(table, since_s, now.target_s, now.settle_s, now.feedback_metrics)
        return at_once, LogReader(table, since_s, now.target_s, now.votes_s, now.feedback_metrics)


def _pace(requests: Sequence[Finished], now_s: float) -> tuple[float, float]:
    """Seconds within which 99 % of the requests ended, and how many came each second."""
    if not requests:
        return 0.0, 1.0
    e2e_s = [one.result.outcome.e2e_s or 0.0 for one in requests]
    waited_s = now_s - min(one.record.created_s for one in requests)
    return float(np.quantile(e2e_s, 0.99)), len(requests) / max(waited_s, 1.0)
