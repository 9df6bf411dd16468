"""Watches live outcomes: alarms of the active version, shadow and canary of a candidate."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from deployments.learning.live_evidence import Finished, compared, usable
from deployments.learning.log_reader import LogReader
from deployments.learning.rollout import Rollout
from deployments.learning.settings import LearnerSettings
from deployments.logger import get_logger
from deployments.table.api import TableApi
from policies.decider import version_name
from policies.promotion.alarms import Alarms
from policies.promotion.canary import Canary
from policies.promotion.rollout import Candidate, RolloutState, Stage

logger = get_logger(__name__)

ALARM_WINDOW_S: Final = 3_600.0
_MOST_REQUESTS: Final = 5_000  # last requests of a candidate's stage
_UNMATCHED: Final = 20.0  # times the requests after which one of the version before was to come


@dataclass(slots=True)
class _Look:
    """What one stage of one version has shown so far."""

    key: tuple[int, str, float]
    reader: LogReader
    voted: LogReader  # the same requests, later, when votes on them are in
    requests: deque[Finished] = field(default_factory=lambda: deque(maxlen=_MOST_REQUESTS))
    canary: Canary | None = None
    alarms: tuple[Alarms, ...] = ()  # at once, and when votes are in


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
        canary = Canary(candidate, self.settings.canary)
        canary.shadowed(len(look.requests), unusable, self._clock())
        return canary.looked(self._clock())

    async def _canary(
        self, state: RolloutState, candidate: Candidate, look: _Look, fresh: Sequence[Finished]
    ) -> Candidate:
        """The canary over everything that finished since it began; its step as the ingress has it."""
        if look.canary is None:
            look.canary = Canary(candidate, self.settings.canary)
        incumbent, now_s = await self._rollout.policy(state.active), self._clock()
        for one in await look.voted.fresh(now_s):
            look.canary.proof.add(compared(one, candidate.version, incumbent.probabilities(one.observation)))
        for one in fresh:
            usual = incumbent.probabilities(one.observation)
            look.canary.finished(compared(one, candidate.version, usual), now_s)
        return look.canary.looked(now_s)

    async def _alarmed(self, state: RolloutState) -> bool:
        """Whether the active version went bad and was rolled back; after a restart the last hour counts."""
        if state.active is None:
            return False
        await self._rollout.leave_yardstick(self.settings.alarms.yardstick_share)
        key = state.active, "active", state.promoted_s
        if self._active is None or self._active.key != key:
            since_s = max(state.promoted_s, self._clock() - ALARM_WINDOW_S)
            alarms = Alarms(self.settings.alarms), Alarms(self.settings.alarms)
            self._active = _Look(key, *self._readers(since_s), alarms=alarms)
        reason = await self._alarm(state, state.active, self._active)
        if reason is not None:
            await self._rollout.roll_back(state.active, reason)
        return reason is not None

    async def _alarm(self, state: RolloutState, active: int, look: _Look) -> str | None:
        """The first alarm among the requests that ended since the last look, or on which votes came."""
        before = await self._rollout.policy(state.previous)
        for reader, alarms in zip((look.reader, look.voted), look.alarms, strict=True):
            for one in await reader.fresh(self._clock()):
                if one.record.charged_version in (active, state.previous or 0):
                    reason = alarms.update(compared(one, active, before.probabilities(one.observation)))
                    if reason is not None:
                        return reason
            if alarms.unmatched * self.settings.alarms.yardstick_share > _UNMATCHED:
                logger.warning(
                    "The alarms of '%s' rest: none of its last %d requests was left to '%s'.",
                    version_name(active), alarms.unmatched, version_name(state.previous),
                )  # fmt: skip
        return None

    def _readers(self, since_s: float) -> tuple[LogReader, LogReader]:
        """Of requests as soon as they have ended, and of the same ones when votes have had their time."""
        settings = self.settings
        at_once = LogReader(self._table, since_s, settings.target_s, settings.settle_s)
        return at_once, LogReader(self._table, since_s, settings.target_s, settings.votes_s)
