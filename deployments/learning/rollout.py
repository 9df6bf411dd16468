"""Which policy version serves, which one is on trial, what went before: one durable value."""

from collections.abc import Mapping
from typing import Literal

from deployments.strict import StrictModel
from policies.promotion.alarms import Reference

TrialStage = Literal["waiting", "shadow", "canary"]


class TrialState(StrictModel):
    """A candidate on its way. WAITING: judged, but short of evidence. `share` is what the ingress reads."""

    version: int
    stage: TrialStage
    share: float = 0.0
    step: int = 0
    started_s: float = 0.0  # wall clock at which its canary began: the evidence is what finished since
    since_s: float = 0.0


class ReferenceState(StrictModel):
    """What the version before earned; see policies.promotion.alarms.Reference."""

    reward: float
    failure_rate: float
    late_rate: float
    late_s: float
    cost_usd: float
    entropy: float

    def value(self) -> Reference:
        """The same as the frozen type that the alarms read."""
        return Reference(**self.model_dump())


class RolloutState(StrictModel):
    """The rollout as the table keeps it; `active` None is the formula."""

    active: int | None = None
    previous: int | None = None
    candidate: TrialState | None = None
    last_version: int = 0
    promoted_s: float = 0.0
    frozen_since_s: float | None = None  # learning rests since a rollback
    paused: bool = False  # by an operator: nothing is trained or moved
    reference: ReferenceState | None = None
    trained_s: float = 0.0  # the last candidate knew what was graded until then

    @classmethod
    def read(cls, stored: Mapping[str, object]) -> "RolloutState":
        """The state in a snapshot; an empty one is a fresh start."""
        return cls.model_validate(dict(stored))

    def promoted(self, at_s: float, reference: ReferenceState | None) -> "RolloutState":
        """The candidate becomes active. Raises ValueError where there is none."""
        if self.candidate is None:
            raise ValueError("No candidate is on trial, nothing to promote.")
        return self.replace(
            active=self.candidate.version,
            previous=self.active,
            candidate=None,
            promoted_s=at_s,
            reference=reference,
        )

    def rolled_back(self, at_s: float) -> "RolloutState":
        """The candidate is dropped, or else the active version gives way; learning rests from now."""
        if self.candidate is not None:
            return self.replace(candidate=None, frozen_since_s=at_s)
        return self.reverted(at_s)

    def reverted(self, at_s: float) -> "RolloutState":
        """The active version gives way, and what was to follow it with it; learning rests from now."""
        return self.replace(
            active=self.previous, previous=None, candidate=None, reference=None, frozen_since_s=at_s
        )
