"""What the decision log says of each request: its reward, for the canary, the alarms and gate C."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deployments.records.records import DecisionRecord, FeedbackRecord, OutcomeRecord
from policies.arrays import F64
from policies.decider import MISSING
from policies.observation import MODEL_COLUMN, Observation
from policies.outcome import Status
from policies.policy import Policy, PolicyError
from policies.promotion.compared import ComparedRequest
from policies.promotion.ope import Voted
from policies.promotion.slices import SlicedRequest
from policies.reward import NO_TARGET_S, lateness, reward

_ACCURACY, _E2E, _COST = MODEL_COLUMN["accuracy"], MODEL_COLUMN["e2e_s"], MODEL_COLUMN["cost_usd"]


@dataclass(frozen=True, slots=True)
class Finished:
    """One dispatched request whose end is known. `reward` and the predicted `expected` [M] lie in [0, 1]."""

    record: DecisionRecord
    result: OutcomeRecord
    observation: Observation
    reward: float
    expected: F64
    cost_usd: float
    surprise: (
        float | None
    )  # how much more of `reward` the vote is worth than the predicted score; None without one

    @property
    def is_shed(self) -> bool:
        """Whether it was refused because nothing had room for it in time."""
        return self.result.outcome.is_shed

    @property
    def is_rescued(self) -> bool:
        """Whether the model that the decision chose failed, and another one was tried."""
        return self.record.model in self.result.fallbacks

    @property
    def failed(self) -> bool:
        """Whether the model that the decision chose failed it, or the policy whose turn it was."""
        failed = self.result.outcome.status is Status.FAILED
        return failed or self.is_rescued or self.record.decider.is_fault

    @property
    def index(self) -> int:
        """Row of the model that the decision chose."""
        return self.observation.models.index(self.record.model)


def normalised_reward(
    score: float, e2e_s: float, cost_usd: float, caller: Sequence[float], scale: float, target_s: float
) -> float:
    """The reward of policies.reward, moved to [0, 1] by the caller's own weights.

    `caller` [C] holds CALLER_FIELDS, `scale` is the cost in USD that counts as 1, `target_s` stands in
    where the caller has no latency target.
    """
    a, latency, cost, own_target_s = caller[:4]
    late = lateness(e2e_s, own_target_s or target_s)
    share = min(cost_usd / scale, 1.0) if scale > 0.0 else 0.0
    return (reward(score, late, share, a, latency, cost) + latency + cost) / (a + latency + cost)


def shed_reward(caller: Sequence[float]) -> float:
    """The normalised reward of a request that was refused for load: no answer, as late as can be, no cost.

    That is the reward of policies.reward for a request that came to no answer, and of the simulator.
    """
    return normalised_reward(0.0, math.inf, 0.0, caller, 0.0, NO_TARGET_S)


def finished(
    transitions: Iterable[tuple[DecisionRecord, OutcomeRecord | None]],
    votes: Mapping[str, float],
    target_s: float,
    *,
    counts_latency: bool = True,
    with_shed: bool = False,
) -> list[Finished]:
    """Dispatched requests that ended, in order of their end, each charged with what came of the decision.

    A request's score is its vote where there is one, else what was predicted for the chosen model. What
    another model had to answer scores 0 and took as long as it took in all; what the client left took at
    least until then. A request that was refused for what it asked, and one whose version had not arrived,
    says nothing. One that was refused for load counts `with_shed`: where whole slices of time are compared.
    Latency is left out where requests that share queues are compared: a request bears what others chose.
    """
    found = []
    for record, result in transitions:
        if result is None or not record.rows or not record.is_dispatched:
            continue
        is_left_out = result.outcome.status is Status.REJECTED and not (with_shed and result.outcome.is_shed)
        if is_left_out or record.decider.fallback == MISSING:
            continue
        found.append(_finished(record, result, votes.get(record.decision_id), target_s, counts_latency))
    return sorted(found, key=lambda one: one.result.finished_s)


def _finished(
    record: DecisionRecord, result: OutcomeRecord, vote: float | None, target_s: float, counts_latency: bool
) -> Finished:
    observation = Observation(
        record.models,
        np.asarray(record.rows, dtype=np.float64),
        np.asarray(record.prompt, dtype=np.float64),
        np.asarray(record.caller, dtype=np.float64),
        np.asarray(record.mask, dtype=bool),
    )
    rows, outcome = observation.rows, result.outcome
    scale = float(rows[:, _COST].max())
    expected = np.array(
        [
            normalised_reward(
                r[_ACCURACY], r[_E2E] if counts_latency else 0.0, r[_COST], record.caller, scale, target_s
            )
            for r in rows
        ]
    )
    earned = _earned(record, result, vote, scale, target_s, counts_latency)
    surprise = None if vote is None else _surprise(record, result, vote)
    return Finished(record, result, observation, earned, expected, outcome.cost_usd, surprise)


def _surprise(record: DecisionRecord, result: OutcomeRecord, vote: float) -> float | None:
    """None where the decision earns no score, whatever was voted."""
    if result.outcome.status is Status.FAILED or result.outcome.is_shed or record.model in result.fallbacks:
        return None
    accuracy, latency, cost = record.caller[:3]
    predicted = record.rows[record.models.index(record.model)][_ACCURACY]
    return accuracy * (vote - predicted) / (accuracy + latency + cost)


def voted(log: Sequence[Finished]) -> Voted:
    """The votes on a log, for its off-policy estimates."""
    rows = np.array([one.surprise is not None for one in log], dtype=bool)
    return Voted(rows, np.array([one.surprise or 0.0 for one in log], dtype=np.float64))


def _earned(
    record: DecisionRecord,
    result: OutcomeRecord,
    vote: float | None,
    scale: float,
    target_s: float,
    counts_latency: bool,
) -> float:
    """The normalised reward of a decision."""
    outcome = result.outcome
    if outcome.is_shed:
        return shed_reward(record.caller)
    if outcome.status is Status.FAILED:
        return 0.0
    row = record.rows[record.models.index(record.model)]
    score, e2e_s = row[_ACCURACY] if vote is None else vote, outcome.e2e_s or 0.0
    if record.model in result.fallbacks:
        score = 0.0
    if outcome.status is Status.CANCELLED:
        e2e_s = max(e2e_s, row[_E2E])
    e2e_s = e2e_s if counts_latency else 0.0
    return normalised_reward(score, e2e_s, outcome.cost_usd, record.caller, scale, target_s)


def votes_by_decision(feedback: Iterable[FeedbackRecord], metrics: Collection[str]) -> dict[str, float]:
    """Mean score of each decision over `metrics`, of which 1 is the best score."""
    said: dict[str, list[float]] = {}
    for record in feedback:
        if record.metric in metrics:
            said.setdefault(record.decision_id, []).append(record.score)
    return {decision: sum(scores) / len(scores) for decision, scores in said.items()}


def compared(one: Finished, version: int, other: F64) -> ComparedRequest:
    """A finished request in a comparison of `version`; `other` [M] are the other version's choices for it."""
    return ComparedRequest(
        tested=one.record.charged_version == version,
        reward=one.reward,
        expected=float(np.dot(other, one.expected)),
        failed=one.failed,
        at_s=one.result.finished_s,
        e2e_s=one.result.outcome.e2e_s or 0.0,
        cost_usd=one.cost_usd,
        key_id=one.record.key_id,
    )


def sliced(one: Finished, version: int) -> SlicedRequest:
    """A finished request in the slices of `version`.

    What is taken off its reward is the same whoever decides: the mean over the models of what is predicted
    for the prompt, without latency, which the version itself brings about.
    """
    rows, caller = one.observation.rows, one.record.caller
    score, cost_usd = float(rows[:, _ACCURACY].mean()), float(rows[:, _COST].mean())
    usual = normalised_reward(score, 0.0, cost_usd, caller, float(rows[:, _COST].max()), NO_TARGET_S)
    return SlicedRequest(
        tested=one.record.charged_version == version,
        created_s=one.record.created_s,
        surplus=one.reward - usual,
        failed=one.failed,
    )


def usable(policy: Policy, one: Finished) -> bool:
    """Whether the policy could have decided this request."""
    try:
        policy.probabilities(one.observation)
    except PolicyError:
        return False
    return True
