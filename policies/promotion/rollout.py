"""Which policy version serves, which one is on trial, what went before: one durable value."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

YARDSTICK_SHARE: Final = 0.05
_COMPARED_S: Final = 3_600.0  # after a promotion: the canary has just compared slices of both versions


class Stage(StrEnum):
    """WAITING lacks evidence, SHADOW decides without effect, CANARY serves a share; the rest is final."""

    WAITING = "waiting"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a canary: from `began_s` on the candidate gets this share of the slices of time."""

    began_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy version on its way to the users. Times are wall clock."""

    version: int
    stage: Stage
    share: float = 0.0  # share of the slices of time in which it decides
    step: int = 0  # index into the canary's ladder
    started_s: float = 0.0  # when its stage began: evidence is what was decided since
    since_s: float = 0.0  # when its last step began
    reason: str = ""  # why it reached a final stage; of a waiting one the gate that it is short at
    test: int = 0  # number of the last test for a gain that it took, over the life of the pool
    level: float = 0.05  # chance of being promoted by mistake that its canary may spend
    owes_gain: bool = False  # no gate has shown a gain: the canary has to
    seed: int = 0  # of the draw of its slices, the same at every ingress replica
    slice_s: float = 60.0  # length of a slice
    steps: tuple[Step, ...] = ()  # so far, the present one last
    held_until_s: float = 0.0  # until then it decides nothing: its slice was ended early

    @property
    def on_trial(self) -> bool:
        """Whether requests are compared for it now."""
        return self.stage in (Stage.SHADOW, Stage.CANARY)


@dataclass(frozen=True, slots=True)
class RolloutState:
    """The rollout as the table keeps it. `active` None is the priced rule; times are wall clock.

    `revision` counts changes. A change is stored only if it was made to the stored revision, so that of two
    changes at once (a command and the Learner) the later one fails instead of undoing the other.
    """

    active: int | None = None
    previous: int | None = None
    candidate: Candidate | None = None
    last_version: int = 0
    promoted_s: float = 0.0
    frozen_since_s: float | None = None  # learning rests since a rollback
    paused: bool = False  # by an operator: nothing is trained or moved
    yardstick_share: float = YARDSTICK_SHARE  # of requests that the version before an active one decides
    trained_s: float = 0.0  # the last candidate was trained on what was graded until then
    tests: int = 0  # tests for a gain so far, over all candidates
    seed: int = 0  # of the draw of the slices that are left to the version before
    slice_s: float = 0.0  # length of these, as the canary of the active version had them; 0: there are none
    revision: int = 0  # set by the table

    @property
    def yardstick(self) -> Candidate | None:
        """The version before the active one, as what is given slices of time to compare with; else None.

        While a candidate is in its canary there are none: its slices take their place.
        """
        candidate = self.candidate
        if self.active is None or not self.slice_s or not self.yardstick_share:
            return None
        if candidate is not None and candidate.stage is Stage.CANARY:
            return None
        step = Step(self.promoted_s + _COMPARED_S, self.yardstick_share)
        before = self.previous or 0
        return Candidate(before, Stage.CANARY, seed=self.seed, slice_s=self.slice_s, steps=(step,))

    @property
    def versions(self) -> frozenset[int]:
        """The learned versions that may decide a request."""
        candidate = None if self.candidate is None else self.candidate.version
        named = (self.active, self.previous, candidate)
        return frozenset(version for version in named if version is not None)

    def tries(self, version: int) -> bool:
        """Whether `version` is the candidate."""
        return self.candidate is not None and self.candidate.version == version

    def promoted(self, at_s: float) -> "RolloutState":
        """The candidate becomes active. Raises ValueError where there is none."""
        if self.candidate is None:
            raise ValueError("No candidate is on trial, nothing to promote.")
        return replace(
            self,
            active=self.candidate.version,
            previous=self.active,
            candidate=None,
            promoted_s=at_s,
            seed=self.candidate.seed,
            slice_s=self.candidate.slice_s,
        )

    def rolled_back(self, at_s: float) -> "RolloutState":
        """The candidate is dropped, or else the active version gives way; learning rests from now."""
        if self.candidate is not None:
            return replace(self, candidate=None, frozen_since_s=at_s)
        return self.reverted(at_s)

    def reverted(self, at_s: float) -> "RolloutState":
        """The active version gives way, and what was to follow it with it; learning rests from now."""
        return replace(
            self,
            active=self.previous,
            previous=None,
            candidate=None,
            promoted_s=at_s,
            frozen_since_s=at_s,
        )
