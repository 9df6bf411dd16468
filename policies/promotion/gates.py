"""The gates that a policy version must pass, in order, before it may meet users.

A: paired evaluation, against the incumbent and against the priced rule. B: simulator. C: off-policy estimate.
D (shadow and canary) is policies.promotion.canary. Every gate is a pure function from evidence to a Verdict
that carries its numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from pydantic import Field

from policies.arrays import F64
from policies.decision import is_distribution
from policies.learned.checkpoint import CheckpointError
from policies.learned.policy import LearnedPolicy
from policies.promotion.confidence import Bound, mean_bound
from policies.promotion.ope import Log, difference
from policies.strict import StrictModel

GAIN_GATE: Final = "gain"
RULE_GATE: Final = "rule"
LOG_GATE: Final = "C"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one gate says. `needs_evidence`: not wrong, but not yet shown; try again with more."""

    gate: str
    passed: bool
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    needs_evidence: bool = False
    owes_gain: bool = False  # passed, but live traffic has to show the gain


class GateSettings(StrictModel):
    """Evidence that a candidate needs; margins are losses of normalised reward, which lies in [0, 1]."""

    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)  # Level of each one-sided bound.
    min_items: int = Field(default=100, ge=10)  # Judge in gate A from this many paired items on.
    paired_margin: float = Field(default=0.01, ge=0.0)  # Exclude a loss of this much overall in gate A.
    # Judge a task, language or length by itself from this many items on.
    min_slice_items: int = Field(default=20, ge=2)
    # Exclude a loss of this much on each task, language and length in gate A.
    slice_margin: float = Field(default=0.10, ge=0.0)
    # Exclude a loss of this much against each baseline in gate B.
    simulator_margin: float = Field(default=0.01, ge=0.0)
    # Refuse in gate C when the log shows a loss above this.
    off_policy_margin: float = Field(default=0.03, ge=0.0)
    # Ask for more evidence in gate C below this effective sample size of the log, in requests.
    min_effective_sample_size: float = Field(default=100.0, ge=1.0)
    # Ask for more evidence in gate C above this share of choices that the log never tried.
    max_unsupported: float = Field(default=0.05, ge=0.0, le=1.0)
    # Ask for a gain above this, on graded items or in a simulated scenario, or else on live traffic.
    min_gain: float = Field(default=0.0, ge=-1.0, le=1.0)
    # Let no candidate go to live traffic of which a gain of this much is excluded everywhere.
    least_gain: float = Field(default=0.01, ge=-1.0, le=1.0)


@dataclass(frozen=True, slots=True)
class PairedEvidence:
    """Full-information evidence on N items, none of which the candidate was fitted on.

    `candidate`, `incumbent` and `rule`, which is the priced one, [N, M] are probabilities, `utility` [N, M]
    what each model's answer was worth; `slices` name the items' groups (task, language, length), [N] labels
    each.
    """

    candidate: F64
    incumbent: F64
    rule: F64
    utility: F64
    slices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def gains(self) -> F64:
        """[N] expected utility of the candidate minus the incumbent's, item by item."""
        return self.gains_over(self.incumbent)

    def gains_over(self, other: F64) -> F64:
        """[N] the same over `other` [N, M]."""
        gains: F64 = ((self.candidate - other) * self.utility).sum(axis=1)
        return gains


def _numbers(prefix: str, bound: Bound) -> dict[str, float]:
    return {
        f"{prefix}.mean": bound.mean,
        f"{prefix}.low": bound.low,
        f"{prefix}.high": bound.high,
        f"{prefix}.count": float(bound.count),
    }


def finite_gate(candidate: F64) -> Verdict:
    """Probabilities [N, M] must be finite, non-negative and sum to 1 for every item looked at."""
    bad = sum(not is_distribution(probabilities) for probabilities in candidate)
    return Verdict(
        "finite", bad == 0, f"{bad} of {len(candidate)} items without a distribution", {"bad": float(bad)}
    )


def paired_gate(evidence: PairedEvidence, limits: GateSettings) -> Verdict:
    """Gate A: by the one-sided lower bound the paired gain is no loss, overall and on each slice.

    Overall a loss of `paired_margin` must be excluded, on a slice one of `slice_margin`. What fails
    only for want of items needs more evidence; a slice whose upper bound lies below 0 has regressed.
    """
    gains = evidence.gains()
    overall = mean_bound(gains, limits.alpha)
    numbers = _numbers("gain", overall)
    if overall.count < limits.min_items:
        return Verdict("A", False, f"{overall.count} paired items, {limits.min_items} needed", numbers, True)
    lost, open_ = _slices(gains, evidence.slices, limits, numbers)
    if lost:
        return Verdict("A", False, f"regression on {', '.join(lost)}", numbers)
    if overall.high < 0.0:
        return Verdict("A", False, f"worse by {-overall.mean:.4f}", numbers)
    if overall.low <= -limits.paired_margin:
        reason = f"gain {overall.mean:+.4f}, a loss not excluded (low {overall.low:+.4f})"
        return Verdict("A", False, reason, numbers, True)
    if open_:
        return Verdict("A", False, f"too little evidence on {', '.join(open_)}", numbers, True)
    return Verdict("A", True, f"gain {overall.mean:+.4f}, at least {overall.low:+.4f}", numbers)


def rule_gate(evidence: PairedEvidence, limits: GateSettings) -> Verdict:
    """Gate A once more, against the priced rule, which never changes.

    Each version may be worse than the one before by what gate A cannot exclude. Measured against the same
    rule every time, such losses cannot add up.
    """
    bound = mean_bound(evidence.gains_over(evidence.rule), limits.alpha)
    numbers, told = _numbers("gain", bound), f"gain over the priced rule {bound.mean:+.4f}"
    if bound.low > -limits.paired_margin:
        return Verdict(RULE_GATE, True, f"{told}, at least {bound.low:+.4f}", numbers)
    return Verdict(RULE_GATE, False, f"{told}, a loss not excluded", numbers, bound.high >= 0.0)


def _slices(
    gains: F64, slices: Mapping[str, Sequence[str]], limits: GateSettings, numbers: dict[str, float]
) -> tuple[list[str], list[str]]:
    """Names of slices that lost, and of those not yet cleared; their bounds go into `numbers`."""
    lost, open_ = [], []
    for kind, labels in slices.items():
        named = np.asarray(labels)
        for label in np.unique(named):
            mine = gains[named == label]
            if len(mine) < limits.min_slice_items:
                continue
            bound = mean_bound(mine, limits.alpha)
            name = f"{kind}={label}"
            numbers.update(_numbers(name, bound))
            if bound.high < 0.0 and bound.mean < -limits.slice_margin / 2:
                lost.append(name)
            elif bound.low < -limits.slice_margin:
                open_.append(name)
    return lost, open_


def simulator_gate(
    candidate: F64, baselines: Mapping[str, F64], limits: GateSettings, scenario: str = ""
) -> Verdict:
    """Gate B: over E paired episodes [E] of utility, not worse than any baseline by the margin."""
    numbers: dict[str, float] = {}
    for name, episodes in baselines.items():
        bound = mean_bound(candidate - episodes, limits.alpha)
        numbers.update(_numbers(f"{scenario}:{name}" if scenario else name, bound))
        if bound.low < -limits.simulator_margin:
            return Verdict("B", False, f"not shown to keep up with '{name}' {scenario}".strip(), numbers)
    return Verdict("B", True, f"keeps up with {', '.join(baselines)}", numbers)


def gain_gate(gains: Mapping[str, F64], level: float, limits: GateSettings) -> Verdict:
    """Whether the candidate is measurably better than the incumbent somewhere, by a bound above `min_gain`.

    `gains` [N] of utility over the incumbent, on the paired items and in each simulated scenario. All bounds
    hold at once with probability 1 - `level`. A candidate that is merely not worse does not justify a change:
    where a gain is not shown and not excluded either, it owes it to its canary.
    """
    bounds = {name: mean_bound(values, level / len(gains)) for name, values in gains.items()}
    numbers = {"level": level}
    for name, bound in bounds.items():
        numbers.update(_numbers(name, bound))
    best = max(bounds, key=lambda name: bounds[name].low)
    if bounds[best].low > limits.min_gain:
        return Verdict(GAIN_GATE, True, f"better by at least {bounds[best].low:+.4f} ({best})", numbers)
    least = max(limits.least_gain, limits.min_gain)
    if max(mean_bound(values, limits.alpha).high for values in gains.values()) <= least:
        return Verdict(GAIN_GATE, False, f"a gain of {least:g} is excluded everywhere", numbers)
    return Verdict(GAIN_GATE, True, "a gain is to be shown on live traffic", numbers, owes_gain=True)


def off_policy_gate(log: Log, candidate: F64, incumbent: F64, limits: GateSettings) -> Verdict:
    """Gate C: the live log does not contradict, by self-normalised doubly robust differences.

    A non-inferiority check: the anytime-valid upper bound must not lie below `-off_policy_margin`.
    Needs an effective sample size and support; a log too thin to speak asks for more evidence.
    """
    estimate = difference("sndr", log, candidate, incumbent, limits.alpha)
    numbers = _numbers("difference", estimate.anytime)
    numbers["effective_sample_size"] = estimate.effective_sample_size
    numbers["unsupported"] = estimate.unsupported
    if estimate.effective_sample_size < limits.min_effective_sample_size:
        size, floor = estimate.effective_sample_size, limits.min_effective_sample_size
        reason = f"effective sample size {size:.0f}, {floor:.0f} needed"
        return Verdict(LOG_GATE, False, reason, numbers, True)
    if estimate.unsupported > limits.max_unsupported:
        return Verdict(
            LOG_GATE, False, f"{estimate.unsupported:.1%} of its choices were never tried", numbers, True
        )
    if estimate.fixed.high < -limits.off_policy_margin or estimate.anytime.high < 0.0:
        return Verdict(LOG_GATE, False, f"the live log says {estimate.value:+.4f}", numbers)
    return Verdict(LOG_GATE, True, f"the live log says {estimate.value:+.4f}", numbers)


@dataclass(frozen=True, slots=True)
class Simulated:
    """Utilities [E] of the candidate and of each baseline over the same E episodes of one scenario.

    One of the baselines is named `incumbent`.
    """

    candidate: F64
    baselines: Mapping[str, F64]


@dataclass(frozen=True, slots=True)
class LiveLog:
    """The decision log with what the candidate and the incumbent [N, M] would have done."""

    log: Log
    candidate: F64
    incumbent: F64


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the gates get their evidence; each is called only when its gate's turn has come."""

    paired: Callable[[], PairedEvidence]
    simulated: Callable[[], Mapping[str, Simulated]]
    live: Callable[[], LiveLog]


def load_gate(data: bytes) -> tuple[Verdict, LearnedPolicy | None]:
    """A checkpoint must load: undamaged, for these features, finite."""
    try:
        policy = LearnedPolicy.from_bytes(data)
    except CheckpointError as error:
        return Verdict("load", False, str(error)), None
    return Verdict("load", True, f"revision {policy.revision}"), policy


def judge(evidence: Evidence, limits: GateSettings, level: float) -> list[Verdict]:
    """Verdicts in order, ending with the first that did not pass; all passed means: ready for shadow.

    `level` is the chance of a promotion without a gain that this test may spend: half of it here, half in the
    canary.
    """
    paired = evidence.paired()
    verdicts = [finite_gate(paired.candidate)]
    if verdicts[-1].passed:
        verdicts.append(paired_gate(paired, limits))
    if verdicts[-1].passed:
        verdicts.append(rule_gate(paired, limits))
    if verdicts[-1].passed:
        gains = {"items": paired.gains()}
        for scenario, episodes in evidence.simulated().items():
            verdicts.append(simulator_gate(episodes.candidate, episodes.baselines, limits, scenario))
            if not verdicts[-1].passed:
                return verdicts
            gains[f"simulated {scenario}"] = episodes.candidate - episodes.baselines["incumbent"]
        verdicts.append(gain_gate(gains, level / 2.0, limits))
    if verdicts[-1].passed:
        live = evidence.live()
        verdicts.append(off_policy_gate(live.log, live.candidate, live.incumbent, limits))
    return verdicts
