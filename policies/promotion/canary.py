"""Gate D: a candidate meets users step by step, and is sent back the moment the evidence turns.

A pure state machine. It is fed one finished request at a time and says what share the candidate gets.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from policies.promotion.confidence import Betting, rescale


class Stage(StrEnum):
    """SHADOW decides without effect; CANARY serves a share; the other two are final."""

    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """The ladder and its speed. Rewards and margins are in units of the utility, which lies in [0, 1]."""

    ladder: tuple[float, ...] = (0.01, 0.05, 0.25)  # shares before 1.0
    min_requests: int = 50  # finished candidate requests a step
    min_step_s: float = 60.0
    shadow_requests: int = 50
    alpha: float = 0.05  # chance that a candidate no worse than the incumbent is ever sent back
    margin: float = 0.02  # a loss smaller than this is no reason to roll back
    max_failures_above: float = 0.05  # error rate above the incumbent's that alarms
    max_shadow_bad: float = 0.0  # share of shadow decisions that may be unusable
    min_entropy_ratio: float = 0.0  # mean entropy of the candidate over the incumbent's, shadow


@dataclass(frozen=True, slots=True)
class Trial:
    """One finished request as the canary sees it.

    `reward` in [0, 1]; `expected` is what the incumbent was expected to earn on this very prompt, by the
    same models for both arms: subtracting it takes the prompt's own difficulty out of the comparison.
    """

    candidate: bool
    reward: float
    expected: float
    failed: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class CanaryState:
    """Where a candidate stands; JSON-able through `as_dict`."""

    version: int
    stage: Stage
    step: int = 0
    since_s: float = 0.0
    reason: str = ""

    def share(self, settings: CanarySettings) -> float:
        """Share of requests that the candidate decides."""
        if self.stage is Stage.CANARY:
            return settings.ladder[self.step]
        return 1.0 if self.stage is Stage.PROMOTED else 0.0


@dataclass(slots=True)
class Arm:
    """Running sums of one side of the comparison."""

    count: int = 0
    failures: int = 0
    reward: float = 0.0
    surprise: float = 0.0  # reward minus what was expected

    def add(self, trial: Trial) -> None:
        """Count one request."""
        self.count += 1
        self.failures += trial.failed
        self.reward += trial.reward
        self.surprise += trial.reward - trial.expected

    @property
    def mean(self) -> float:
        """Mean reward; NaN while empty."""
        return self.reward / self.count if self.count else float("nan")

    @property
    def failure_rate(self) -> float:
        """Share of failed requests; 0 while empty."""
        return self.failures / self.count if self.count else 0.0


@dataclass(slots=True)
class Canary:
    """Runs one candidate up the ladder.

    The harm test is an e-process (policies.promotion.confidence.Betting) on the candidate's shortfall against
    the incumbent's running mean, so it may be looked at after every request. Failures are tested
    the same way. Either one rejecting sends the candidate back at once.
    """

    state: CanaryState
    settings: CanarySettings = field(default_factory=CanarySettings)
    candidate: Arm = field(default_factory=Arm)
    incumbent: Arm = field(default_factory=Arm)
    _harm: Betting = field(init=False)
    _failing: Betting = field(init=False)
    _step_requests: int = 0

    def __post_init__(self) -> None:
        self._harm = Betting(rescale(self.settings.margin, -1.0, 1.0))
        self._failing = Betting(self.settings.max_failures_above)

    def shadow_seen(self, decisions: int, bad: int, entropy_ratio: float, at_s: float) -> CanaryState:
        """Judge what the candidate would have chosen; enough good decisions start the canary."""
        if self.state.stage is not Stage.SHADOW or decisions < self.settings.shadow_requests:
            return self.state
        if bad > self.settings.max_shadow_bad * decisions:
            return self._roll_back(f"{bad} of {decisions} shadow decisions unusable", at_s)
        if entropy_ratio < self.settings.min_entropy_ratio:
            return self._roll_back(f"shadow entropy {entropy_ratio:.2f} of the incumbent's", at_s)
        self.state = replace(self.state, stage=Stage.CANARY, step=0, since_s=at_s)
        return self.state

    def finished(self, trial: Trial, now_s: float | None = None) -> CanaryState:
        """Take one request into account and move where the evidence says so.

        A new share comes into force at `now_s`, by default when the request ended: what ended before
        speaks of the candidate, but is no request of the new step.
        """
        if self.state.stage is not Stage.CANARY:
            return self.state
        (self.candidate if trial.candidate else self.incumbent).add(trial)
        if not trial.candidate:
            return self.state
        self._step_requests += trial.at_s >= self.state.since_s
        self._failing.update(1.0 if trial.failed else 0.0)
        if self.incumbent.count:
            usual = self.incumbent.surprise / self.incumbent.count
            self._harm.update(rescale(usual - (trial.reward - trial.expected), -1.0, 1.0))
        return self._move(trial.at_s, trial.at_s if now_s is None else now_s)

    def alarm(self, reason: str, at_s: float) -> CanaryState:
        """An alarm from outside (latency, cost, share, entropy): back at once."""
        if self.state.stage in (Stage.PROMOTED, Stage.ROLLED_BACK):
            return self.state
        return self._roll_back(reason, at_s)

    def _move(self, at_s: float, now_s: float) -> CanaryState:
        above = self.candidate.failure_rate - self.incumbent.failure_rate
        if self._failing.rejects(self.settings.alpha / 2) and above > self.settings.max_failures_above:
            return self._roll_back(
                f"{self.candidate.failures} of {self.candidate.count} requests failed", at_s
            )
        if self._harm.rejects(self.settings.alpha / 2):
            told = f"reward {self.candidate.mean:.3f}, incumbent {self.incumbent.mean:.3f}"
            return self._roll_back(told, at_s)
        waited = at_s - self.state.since_s >= self.settings.min_step_s
        if waited and self._step_requests >= self.settings.min_requests and self.incumbent.count:
            self._climb(now_s)
        return self.state

    def _climb(self, at_s: float) -> None:
        self._step_requests = 0
        if self.state.step + 1 < len(self.settings.ladder):
            self.state = replace(self.state, step=self.state.step + 1, since_s=at_s)
        else:
            self.state = replace(self.state, stage=Stage.PROMOTED, since_s=at_s, reason="ladder climbed")

    def _roll_back(self, reason: str, at_s: float) -> CanaryState:
        self.state = replace(self.state, stage=Stage.ROLLED_BACK, since_s=at_s, reason=reason)
        return self.state
