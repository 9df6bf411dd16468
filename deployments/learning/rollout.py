"""The rollout in the table: every change of its state, each with an event in the history."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from deployments.logger import get_logger
from deployments.records.records import PolicyEvent
from deployments.table.api import TableApi
from policies.decider import version_name
from policies.learned.checkpoint import CheckpointError
from policies.learned.policy import LearnedPolicy
from policies.policy import Policy
from policies.priced import PricedPolicy
from policies.promotion.rollout import Candidate, RolloutState, Stage

logger = get_logger(__name__)

_MOST_POLICIES: Final = 4  # in memory: active, before it, on trial, and one to spare


class Rollout:
    """Moves policy versions. The table holds the state, so that a Learner that dies goes on from there."""

    def __init__(self, table: TableApi, clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock
        self._policies: dict[int, Policy] = {}

    async def state(self) -> RolloutState:
        """The state as last stored."""
        return await self._table.rollout()

    async def new_version(self, checkpoint: bytes, trained: Mapping[str, object]) -> int:
        """Store a trained checkpoint under the next number; `trained` goes into the history."""
        state = await self.state()
        version = state.last_version + 1
        # first: after a kill the number is not given to another candidate
        await self._table.set_rollout(replace(state, last_version=version))
        await self._table.put_artifact(f"policy:{version}", str(version), checkpoint)
        await self.record(version, "trained", trained)
        return version

    async def judged(self, candidate: Candidate | None, trained_s: float, tests: int) -> None:
        """After the gates: the candidate waits or enters shadow, None drops it; `tests` were taken so far."""
        state = replace(await self.state(), candidate=candidate, trained_s=trained_s, tests=tests)
        if candidate is not None and candidate.stage is Stage.SHADOW:
            state = replace(state, frozen_since_s=None)
        await self._table.set_rollout(state)
        if candidate is not None and candidate.stage is Stage.SHADOW:
            await self.record(candidate.version, "shadow", {})

    async def move(self, candidate: Candidate) -> None:
        """Save a candidate's new stage or step, unless it was taken off in the meantime."""
        state = await self.state()
        if not state.tries(candidate.version):
            return
        await self._table.set_rollout(replace(state, candidate=candidate))
        told = {"step": candidate.step, "share": candidate.share}
        if candidate.steps:
            told |= {"seed": candidate.seed, "slice_s": candidate.slice_s, "began_s": candidate.since_s}
        if candidate.held_until_s > self._clock():
            told |= {"held_until_s": candidate.held_until_s}
        await self.record(candidate.version, candidate.stage.value, told)

    async def promote(self, version: int) -> None:
        """A candidate becomes active, unless it was taken off in the meantime."""
        state = await self.state()
        if not state.tries(version):
            return
        await self._table.set_rollout(state.promoted(self._clock()))
        await self.record(version, "promoted", {"before": state.active})

    async def leave_yardstick(self, share: float) -> None:
        """Leave this share of requests to the version before the active one."""
        state = await self.state()
        if state.yardstick_share != share:
            await self._table.set_rollout(replace(state, yardstick_share=share))

    async def roll_back(self, version: int, reason: str) -> None:
        """A candidate goes back, or the active version gives way and a candidate with it; learning rests."""
        state, now_s = await self.state(), self._clock()
        if state.tries(version):
            await self._table.set_rollout(state.rolled_back(now_s))
        elif state.active == version:
            await self._table.set_rollout(state.reverted(now_s))
        else:
            return
        logger.warning("Policy '%s' is rolled back: %s", version_name(version), reason)
        await self.record(version, "rolled_back", {"reason": reason})

    async def record(self, version: int, kind: str, detail: Mapping[str, object]) -> None:
        """Add an event to the history of a version."""
        await self._table.policy_event(PolicyEvent(version, self._clock(), kind, detail))

    async def checkpoint(self, version: int | None) -> bytes:
        """The stored bytes of a version; b"" for None, the priced rule."""
        return b"" if version is None else (await self._table.artifact(f"policy:{version}"))[1]

    async def policy(self, version: int | None) -> Policy:
        """The policy of a version; the priced rule for None and for one that can no longer be loaded."""
        if version is None:
            return PricedPolicy()
        if version not in self._policies:
            try:
                self._policies[version] = LearnedPolicy.from_bytes(await self.checkpoint(version))
            except (CheckpointError, KeyError) as error:
                logger.error(
                    "Policy '%s' cannot be loaded, the priced rule stands in: %s",
                    version_name(version),
                    error,
                )
                return PricedPolicy()
            if len(self._policies) > _MOST_POLICIES:
                del self._policies[next(iter(self._policies))]
        return self._policies[version]
