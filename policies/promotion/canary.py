"""Gate D: a candidate meets users step by step, and is sent back the moment the evidence turns.

A pure state machine. It is fed one finished request at a time and says what share the candidate gets.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from policies.promotion.compared import ComparedRequest
from policies.promotion.confidence import Betting, rescale
from policies.promotion.rollout import Candidate, Stage
from policies.strict import StrictModel

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class CanarySettings(StrictModel):
    """The way to the users: shadow, then a ladder of shares of requests."""

    # Give the candidate these shares of requests, in ascending order; all requests follow after the last.
    ladder: tuple[Share, ...] = (0.01, 0.05, 0.25)
    min_requests: int = Field(default=50, ge=1)  # Climb after this many finished requests on each step.
    min_step_s: float = Field(default=60.0, ge=0.0)  # Stay on each step for at least so many seconds.
    shadow_requests: int = Field(default=50, ge=1)  # Begin the canary after so many requests in shadow.
    # Accept this chance that a candidate that is no worse is ever sent back.
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    margin: float = Field(default=0.02, ge=0.0)  # Tolerate a loss of normalised reward up to this.
    # Send the candidate back when its error rate is higher than the active version's by this much.
    max_failures_above: float = Field(default=0.05, gt=0.0, lt=1.0)

    # Drop a candidate that is still in shadow, or still on the ladder, after so many seconds.
    limit_s: float = Field(default=3 * 86_400.0, gt=0.0)

    @model_validator(mode="after")
    def _climbs(self) -> Self:
        if not self.ladder or list(self.ladder) != sorted(self.ladder):
            raise ValueError(
                f"ladder: {self.ladder}, must be ascending shares below 1 (1 follows by itself)."
            )
        return self


@dataclass(slots=True)
class Arm:
    """Running sums of one side of the comparison."""

    count: int = 0
    failures: int = 0
    reward: float = 0.0
    surprise: float = 0.0  # reward minus what was expected

    def add(self, request: ComparedRequest) -> None:
        """Count one request."""
        self.count += 1
        self.failures += request.failed
        self.reward += request.reward
        self.surprise += request.surprise

    @property
    def mean(self) -> float:
        """Mean reward; NaN while empty."""
        return self.reward / self.count if self.count else float("nan")

    @property
    def failure_rate(self) -> float:
        """Share of failed requests; 0 while empty."""
        return self.failures / self.count if self.count else 0.0


class Proof:
    """The evidence that a candidate is not worse by the margin: an e-process, valid at any time of looking.

    It is fed later than the canary, when votes on the requests are in.
    """

    def __init__(self, margin: float, level: float) -> None:
        self._level = level
        self._incumbent = Arm()
        self._keeps_up = Betting(rescale(-margin, -1.0, 1.0))

    @property
    def is_shown(self) -> bool:
        """Whether there is enough of it."""
        return self._keeps_up.rejects(self._level)

    def add(self, request: ComparedRequest) -> None:
        """Take one request into account."""
        if not request.tested:
            self._incumbent.add(request)
        elif self._incumbent.count:
            usual = self._incumbent.surprise / self._incumbent.count
            self._keeps_up.update(rescale(request.surprise - usual, -1.0, 1.0))


@dataclass(slots=True)
class Canary:
    """Runs one candidate up the ladder.

    The harm test is an e-process (policies.promotion.confidence.Betting) on the candidate's shortfall against
    the incumbent's running mean, so it may be looked at after every request. Failures are tested
    the same way. Either one rejecting sends the candidate back at once. At the top of the ladder the
    candidate waits for the proof that it is not worse.
    """

    state: Candidate
    settings: CanarySettings = field(default_factory=CanarySettings)
    candidate: Arm = field(default_factory=Arm)
    incumbent: Arm = field(default_factory=Arm)
    _harm: Betting = field(init=False)
    proof: Proof = field(init=False)
    _failing: Betting = field(init=False)
    _step_requests: int = 0

    def __post_init__(self) -> None:
        self._harm = Betting(rescale(self.settings.margin, -1.0, 1.0))
        self._failing = Betting(self.settings.max_failures_above)
        self.proof = Proof(self.settings.margin, self.state.level)
        if self.state.stage is Stage.CANARY:  # the ladder may have changed since the step was taken
            step = min(self.state.step, len(self.settings.ladder) - 1)
            self.state = replace(self.state, step=step, share=self.settings.ladder[step])

    def shadowed(self, decisions: int, unusable: int, at_s: float) -> Candidate:
        """Judge what the candidate would have chosen: enough usable decisions start the canary."""
        if self.state.stage is not Stage.SHADOW:
            return self.state
        if unusable:
            return self._roll_back(f"{unusable} of {decisions} shadow decisions unusable", at_s)
        if decisions < self.settings.shadow_requests:
            return self.state
        share = self.settings.ladder[0]
        self.state = replace(
            self.state, stage=Stage.CANARY, share=share, step=0, started_s=at_s, since_s=at_s
        )
        return self.state

    def finished(self, request: ComparedRequest, now_s: float | None = None) -> Candidate:
        """Take one request into account and move where the evidence says so.

        A new share comes into force at `now_s`, by default when the request ended: what ended before
        speaks of the candidate, but is no request of the new step.
        """
        if self.state.stage is not Stage.CANARY:
            return self.state
        (self.candidate if request.tested else self.incumbent).add(request)
        if not request.tested:
            return self.state
        self._step_requests += request.at_s >= self.state.since_s
        self._failing.update(1.0 if request.failed else 0.0)
        if self.incumbent.count:
            usual = self.incumbent.surprise / self.incumbent.count
            self._harm.update(rescale(usual - request.surprise, -1.0, 1.0))
        return self._move(request.at_s, request.at_s if now_s is None else now_s)

    def looked(self, now_s: float) -> Candidate:
        """After a look at the log: a candidate whose time is up goes back."""
        waited_s = now_s - self.state.started_s
        if self.state.on_trial and waited_s > self.settings.limit_s:
            count = self.candidate.count
            return self._roll_back(f"{count} requests compared in {waited_s:.0f} s: no decision", now_s)
        return self.state

    def _move(self, at_s: float, now_s: float) -> Candidate:
        above = self.candidate.failure_rate - self.incumbent.failure_rate
        if self._failing.rejects(self.settings.alpha / 2) and above > self.settings.max_failures_above:
            return self._roll_back(
                f"{self.candidate.failures} of {self.candidate.count} requests failed", at_s
            )
        if self._harm.rejects(self.settings.alpha / 2):
            reason = f"reward {self.candidate.mean:.3f}, incumbent {self.incumbent.mean:.3f}"
            return self._roll_back(reason, at_s)
        waited = at_s - self.state.since_s >= self.settings.min_step_s
        if waited and self._step_requests >= self.settings.min_requests and self.incumbent.count:
            self._climb(now_s)
        return self.state

    def _climb(self, at_s: float) -> None:
        step, ladder = self.state.step + 1, self.settings.ladder
        if step < len(ladder):
            self._step_requests = 0
            self.state = replace(self.state, step=step, share=ladder[step], since_s=at_s)
        elif self.proof.is_shown:
            self.state = replace(
                self.state, stage=Stage.PROMOTED, share=1.0, since_s=at_s, reason="ladder climbed"
            )

    def _roll_back(self, reason: str, at_s: float) -> Candidate:
        self.state = replace(self.state, stage=Stage.ROLLED_BACK, share=0.0, since_s=at_s, reason=reason)
        return self.state
