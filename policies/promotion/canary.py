"""Gate D: a candidate meets users slice by slice, and is sent back the moment the evidence turns.

A pure state machine. It is fed finished requests, or whole slices, and says in which share of the slices of
time (policies.promotion.slices) the candidate decides.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from policies.decision import hash64
from policies.promotion.confidence import Betting, rescale
from policies.promotion.graded import GradedPair, QualityTest
from policies.promotion.rollout import Candidate, Stage, Step
from policies.promotion.slices import MOST, Block, Blocks, Slice, SliceBook, SlicedRequest, schedule
from policies.strict import StrictModel

Share = Annotated[float, Field(gt=0.0, le=0.5)]

_SPREAD: Final = 0.02  # first guess at the variance of a block's difference, on the scale of [-MOST, MOST]
_BOLDNESS: Final = 0.9  # of the largest bet that cannot lose all
_LOOKS_BAD: Final = 0.05  # mean loss over the blocks so far with which no candidate gets a larger share
_FUTILE: Final = 0.1  # chance that a candidate with the least gain is given up


class CanarySettings(StrictModel):
    """The way to the users: shadow, then a ladder of shares of slices of time, each served by one version."""

    # Give the candidate these shares of the slices, in ascending order; all requests follow after the last.
    ladder: tuple[Share, ...] = (0.05, 0.2, 0.5)
    # Climb after this many finished requests of the candidate on each step.
    min_requests: int = Field(default=50, ge=1)
    min_step_s: float = Field(default=60.0, ge=0.0)  # Stay on each step for at least so many seconds.
    shadow_requests: int = Field(default=50, ge=1)  # Begin the canary after so many requests in shadow.
    min_slice_s: float = Field(default=30.0, ge=1.0)  # Let a slice last at least so many seconds.
    # Let a slice last this many times the latency that 99 % of the requests in shadow had.
    slice_latencies: float = Field(default=8.0, ge=1.0)
    # Let a slice last until about so many requests have come, at the rate of those in shadow.
    slice_requests: int = Field(default=20, ge=1)
    # Accept this chance that a candidate that is no worse is ever sent back.
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    # Exclude a loss of normalised reward of this much before a promotion.
    margin: float = Field(default=0.01, ge=0.0, lt=0.15)
    # Of a candidate for which no gate has shown a gain: send it back when a gain of this much is excluded.
    least_gain: float = Field(default=0.02, gt=0.0, lt=0.15)
    # Send the candidate back when graded answers show its choices to be worse than predicted by more.
    quality_margin: float = Field(default=0.01, ge=0.0, lt=1.0)
    # End a slice early when its error rate is surely higher than the usual one by this much.
    max_failures_above: float = Field(default=0.05, gt=0.0, lt=1.0)
    # Drop a candidate that is still in shadow, or still on the ladder, after so many seconds.
    limit_s: float = Field(default=7 * 86_400.0, gt=0.0)

    @model_validator(mode="after")
    def _climbs(self) -> Self:
        if not self.ladder or list(self.ladder) != sorted(self.ladder):
            raise ValueError(
                f"ladder: {self.ladder}, must be ascending shares up to 0.5 (1 follows by itself)."
            )
        return self

    def slice_s(self, longest_s: float, requests_per_s: float) -> float:
        """How long a slice lasts where almost all requests end within `longest_s`."""
        filled_s = self.slice_requests / max(requests_per_s, 1e-3)
        return max(self.min_slice_s, self.slice_latencies * longest_s, min(filled_s, 3_600.0))


@dataclass(slots=True)
class Arm:
    """Running sums of one side of the comparison."""

    count: int = 0
    surplus: float = 0.0  # reward minus what the prompt lets expect
    failures: int = 0

    def add(self, one: Slice) -> None:
        """Count one slice."""
        self.count += one.count
        self.surplus += one.surplus
        self.failures += one.failures

    @property
    def mean(self) -> float:
        """Mean surplus; NaN while empty."""
        return self.surplus / self.count if self.count else math.nan


def _test(null: float) -> Betting:
    """Evidence against a mean difference of at most `null`."""
    return Betting(rescale(null, -MOST, MOST), boldness=_BOLDNESS, variance=_SPREAD)


def _scaled(difference: float) -> float:
    return rescale(difference, -MOST, MOST)


class Proof:
    """The evidence that a candidate is better, or not worse by the margin: valid at any time of looking.

    It is fed later than the canary, when votes on the requests are in.
    """

    def __init__(self, candidate: Candidate, settings: CanarySettings) -> None:
        self._level = candidate.level
        self._owes = candidate.owes_gain
        self._blocks = Blocks()
        self._keeps_up = _test(0.0 if self._owes else -settings.margin)
        self._futile = _test(-settings.least_gain)

    @property
    def is_shown(self) -> bool:
        """Whether there is enough of it."""
        return self._keeps_up.rejects(self._level)

    @property
    def is_futile(self) -> bool:
        """Whether the gain that is owed is excluded."""
        return self._owes and self._futile.rejects(_FUTILE)

    def add(self, state: Candidate, one: Slice) -> None:
        """Take one slice into account."""
        block = self._blocks.add(state, one)
        if block is not None and block.difference is not None:
            self._keeps_up.update(_scaled(block.difference))
            self._futile.update(_scaled(-block.difference))


class Cuts:
    """Evidence that slices end early because of the candidate: a bet that the only one of a block is its own.

    Without an effect that is so in one of `size` cases, which is what the bet pays.
    """

    def __init__(self) -> None:
        self.log_wealth = 0.0
        self.count = 0  # of the candidate's

    def add(self, block: Block) -> None:
        """Take a block into account."""
        own = block.tested is not None and block.tested.is_cut
        self.count += own
        if own + block.other_cuts == 1:
            self.log_wealth += math.log(0.5 + 0.5 * block.size * own)


@dataclass(slots=True)
class Canary:
    """Runs one candidate up the ladder.

    Every block gives one number, the difference of the candidate's slice to the others, to e-processes
    (policies.promotion.confidence.Betting), which may be looked at after every slice: one against "it is no
    worse", one for the proof. A slice in which failures jump is ended early; a candidate of which such
    slices are typical goes back. At the top of the ladder it waits for the proof.
    """

    state: Candidate
    settings: CanarySettings = field(default_factory=CanarySettings)
    candidate: Arm = field(default_factory=Arm)
    incumbent: Arm = field(default_factory=Arm)
    proof: Proof = field(init=False)
    at_once: SliceBook = field(init=False)
    voted: SliceBook = field(init=False)
    differences: list[float] = field(default_factory=list)  # of every block
    _harm: Betting = field(init=False)
    _cuts: Cuts = field(default_factory=Cuts)
    _quality: QualityTest = field(init=False)
    _blocks: Blocks = field(default_factory=Blocks)
    _step_requests: int = 0
    _step_blocks: int = 0

    def __post_init__(self) -> None:
        self._harm = _test(0.0)
        self._quality = QualityTest(self.settings.quality_margin)
        self.proof = Proof(self.state, self.settings)
        self.at_once = SliceBook(self.settings.max_failures_above)
        self.voted = SliceBook(self.settings.max_failures_above)

    @property
    def mean(self) -> float:
        """Mean difference over the blocks so far."""
        return sum(self.differences) / len(self.differences)

    @property
    def _share_of_alpha(self) -> float:
        """What each of the three tests for harm may spend: rewards, slices that were cut, graded answers."""
        return self.settings.alpha / 3.0

    def shadowed(
        self, decisions: int, unusable: int, at_s: float, longest_s: float = 0.0, requests_per_s: float = 1.0
    ) -> Candidate:
        """Judge what the candidate would have chosen: enough usable decisions start the canary.

        Of the requests in shadow almost all ended within `longest_s`, and so many came each second.
        """
        if self.state.stage is not Stage.SHADOW:
            return self.state
        if unusable:
            return self._roll_back(f"{unusable} of {decisions} shadow decisions unusable", at_s)
        if decisions < self.settings.shadow_requests:
            return self.state
        self.state = replace(
            self.state,
            stage=Stage.CANARY,
            started_s=at_s,
            seed=hash64(f"{self.state.version}:{at_s:.3f}"),
            slice_s=self.settings.slice_s(longest_s, requests_per_s),
        )
        self._step(0, at_s)
        return self.state

    def finished(self, request: SlicedRequest) -> None:
        """Take a request that ended, in order of the ends."""
        self.at_once.add(self.state, request)

    def with_votes(self, request: SlicedRequest) -> None:
        """Take a request that ended so long ago that votes on it are in."""
        self.voted.add(self.state, request)

    def looked(self, now_s: float, complete_s: float = -math.inf, voted_s: float = -math.inf) -> Candidate:
        """Move where the evidence says so.

        All requests that began until `complete_s` have ended and were given, all until `voted_s` with votes.
        """
        if self.state.stage is Stage.CANARY:
            if not self.state.steps:  # begun by a release that compared requests
                self._step(self.state.step, now_s)
            self.judge(list(self.at_once.closed(self.state, complete_s)), now_s)
            self.prove(self.voted.closed(self.state, voted_s))
        if self.state.stage is Stage.CANARY:
            self._climb_or_hold(now_s)
        waited_s = now_s - self.state.started_s
        if self.state.on_trial and waited_s > self.settings.limit_s:
            count = self.candidate.count
            return self._roll_back(f"{count} requests compared in {waited_s:.0f} s: no decision", now_s)
        return self.state

    def graded(self, pair: GradedPair) -> None:
        """Take a prompt for which the choices of both versions were graded."""
        self._quality.add(pair)

    def judge(self, slices: Iterable[Slice], now_s: float) -> None:
        """Look for harm in closed slices."""
        for one in slices:
            if self.state.stage is not Stage.CANARY:
                return
            (self.candidate if one.tested else self.incumbent).add(one)
            is_present = one.step + 1 == len(self.state.steps)
            self._step_requests += is_present * one.tested * one.count
            block = self._blocks.add(self.state, one)
            if block is not None:
                self._step_blocks += is_present
                self._weigh(block, now_s)

    def prove(self, slices: Iterable[Slice]) -> None:
        """Take closed slices, votes included, as evidence for it."""
        for one in slices:
            self.proof.add(self.state, one)

    def _weigh(self, block: Block, now_s: float) -> None:
        self._cuts.add(block)
        if self._cuts.log_wealth >= -math.log(self._share_of_alpha):
            self._roll_back(f"{self._cuts.count} of its slices ended early because of failures", now_s)
            return
        if block.difference is None:
            return
        self.differences.append(block.difference)
        self._harm.update(_scaled(-block.difference))
        if self._harm.rejects(self._share_of_alpha):
            self._roll_back(f"reward {self.mean:+.3f} against the incumbent's slices", now_s)

    def _climb_or_hold(self, now_s: float) -> None:
        if self._quality.is_worse(self._share_of_alpha):
            mean = self._quality.total / self._quality.count
            told = f"graded answers {mean:+.3f} against what was predicted"
            self._roll_back(f"{told}, over {self._quality.count} pairs", now_s)
            return
        if self.proof.is_futile:
            self._roll_back(f"a gain of {self.settings.least_gain:g} is excluded, and none was shown", now_s)
            return
        waited = now_s - self.state.since_s >= self.settings.min_step_s
        looks_bad = bool(self.differences) and self.mean < -_LOOKS_BAD
        if (
            waited
            and not looks_bad
            and self._step_blocks
            and self._step_requests >= self.settings.min_requests
        ):
            self._climb(now_s)
        if self.at_once.is_cut(self.state, now_s):
            slices = schedule(self.state)
            end_s = slices.start_s(slices.number(now_s) + 1)
            self.state = replace(self.state, held_until_s=end_s)

    def _climb(self, at_s: float) -> None:
        if self.state.step + 1 < len(self.settings.ladder):
            self._step(self.state.step + 1, at_s)
        elif self.proof.is_shown:
            self.state = replace(
                self.state, stage=Stage.PROMOTED, share=1.0, since_s=at_s, reason="ladder climbed"
            )

    def _step(self, step: int, at_s: float) -> None:
        """Begin a step of the ladder now."""
        step = min(step, len(self.settings.ladder) - 1)
        share = self.settings.ladder[step]
        self._step_requests = self._step_blocks = 0
        steps = (*self.state.steps, Step(at_s, share))
        self.state = replace(self.state, step=step, share=share, since_s=at_s, steps=steps)

    def _roll_back(self, reason: str, at_s: float) -> Candidate:
        self.state = replace(self.state, stage=Stage.ROLLED_BACK, share=0.0, since_s=at_s, reason=reason)
        return self.state
