"""The way of a candidate through the offline gates; the first that fails ends it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from policies.learned.checkpoint import CheckpointError
from policies.learned.policy import LearnedPolicy
from policies.observation import FloatArray
from policies.promotion.gates import (
    GateLimits,
    PairedEvidence,
    Verdict,
    finite_gate,
    gain_gate,
    off_policy_gate,
    paired_gate,
    simulator_gate,
)
from policies.promotion.ope import Log


@dataclass(frozen=True, slots=True)
class Simulated:
    """Utilities [E] of the candidate and of each baseline over the same E episodes of one scenario.

    One of the baselines is named `incumbent`.
    """

    candidate: FloatArray
    baselines: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class LiveLog:
    """The decision log with what the candidate and the incumbent [N, M] would have done."""

    log: Log
    candidate: FloatArray
    incumbent: FloatArray


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the gates get their evidence; each is asked only when its gate's turn has come."""

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


def judge(evidence: Evidence, limits: GateLimits) -> list[Verdict]:
    """Verdicts in order, ending with the first that did not pass; all passed means: ready for shadow."""
    paired = evidence.paired()
    verdicts = [finite_gate(paired.candidate)]
    if verdicts[-1].passed:
        verdicts.append(paired_gate(paired, limits))
    if verdicts[-1].passed:
        for scenario, episodes in evidence.simulated().items():
            verdicts.append(simulator_gate(episodes.candidate, episodes.baselines, limits, scenario))
            if not verdicts[-1].passed:
                return verdicts
        verdicts.append(gain_gate(verdicts))
    if verdicts[-1].passed:
        live = evidence.live()
        verdicts.append(off_policy_gate(live.log, live.candidate, live.incumbent, limits))
    return verdicts
