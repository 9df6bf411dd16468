"""What the decision log says of each request: its reward, for the canary, the alarms and gate C."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from deployments.records.records import DecisionRecord, FeedbackRecord, OutcomeRecord
from policies.arrays import F64
from policies.observation import MODEL_COLUMN, Observation
from policies.outcome import Status
from policies.policy import Policy, PolicyError
from policies.promotion.alarms import WatchedRequest
from policies.promotion.canary import ComparedRequest
from policies.promotion.rollout import Reference
from policies.reward import lateness, reward

LEARNED_METRICS: Final = ("quality", "browser")  # feedback metrics where 1 is best

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

    @property
    def failed(self) -> bool:
        """Whether the model failed it."""
        return self.result.outcome.status is Status.FAILED

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


def finished(
    transitions: Iterable[tuple[DecisionRecord, OutcomeRecord | None]],
    votes: Mapping[str, float],
    target_s: float,
) -> list[Finished]:
    """Dispatched requests that ended by the model's own doing, in order of their end.

    A request's score is its vote where there is one, else what was predicted for the chosen model.
    Requests that the client left, that were refused, or that another model had to answer say nothing
    about the decision.
    """
    found = []
    for record, result in transitions:
        if result is None or not record.rows or not record.is_dispatched:
            continue
        outcome = result.outcome
        if outcome.status not in (Status.OK, Status.FAILED) or outcome.attempts > 1:
            continue
        found.append(_finished(record, result, votes.get(record.decision_id), target_s))
    return sorted(found, key=lambda one: one.result.finished_s)


def _finished(record: DecisionRecord, result: OutcomeRecord, vote: float | None, target_s: float) -> Finished:
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
        [normalised_reward(r[_ACCURACY], r[_E2E], r[_COST], record.caller, scale, target_s) for r in rows]
    )
    if outcome.status is Status.FAILED:
        earned = 0.0
    else:
        predicted = float(rows[record.models.index(record.model), _ACCURACY])
        score = predicted if vote is None else vote
        earned = normalised_reward(
            score, outcome.e2e_s or 0.0, outcome.cost_usd, record.caller, scale, target_s
        )
    return Finished(record, result, observation, earned, expected, outcome.cost_usd)


def votes_by_decision(feedback: Iterable[FeedbackRecord]) -> dict[str, float]:
    """Mean score of each decision over the metrics where 1 is best."""
    said: dict[str, list[float]] = {}
    for record in feedback:
        if record.metric in LEARNED_METRICS:
            said.setdefault(record.decision_id, []).append(record.score)
    return {decision: sum(scores) / len(scores) for decision, scores in said.items()}


def compared(one: Finished, version: int, incumbent: F64) -> ComparedRequest:
    """A finished request as the canary of `version` reads it; `incumbent` [M] are the incumbent's choices."""
    expected = float(np.dot(incumbent, one.expected))
    candidate = one.record.decider.version == version
    return ComparedRequest(candidate, one.reward, expected, one.failed, one.result.finished_s)


def usable(policy: Policy, one: Finished) -> bool:
    """Whether the policy could have decided this request."""
    try:
        policy.probabilities(one.observation)
    except PolicyError:
        return False
    return True


def entropy(probabilities: Sequence[float]) -> float:
    """Entropy in nats of a distribution [M]."""
    p = np.asarray(probabilities, dtype=np.float64)
    p = p[p > 0.0]
    return float(-(p * np.log(p)).sum())


def watched(one: Finished) -> WatchedRequest:
    """A finished request as the alarms read it."""
    return WatchedRequest(
        reward=one.reward,
        failed=one.failed,
        e2e_s=one.result.outcome.e2e_s or float("inf"),
        cost_usd=one.cost_usd,
        entropy=entropy(one.record.probabilities),
        model=one.record.model,
        alternatives=sum(one.record.mask) - 1,
    )


def reference(requests: Sequence[Finished]) -> Reference | None:
    """What these requests earned, as a yardstick; None below 20 of them."""
    if len(requests) < 20:
        return None
    found = [watched(one) for one in requests]
    latencies = np.array([one.e2e_s for one in found if np.isfinite(one.e2e_s)])
    late_s = 2.0 * float(np.quantile(latencies, 0.95)) if len(latencies) else 60.0
    return Reference(
        reward=float(np.mean([one.reward for one in found])),
        failure_rate=float(np.mean([one.failed for one in found])),
        late_rate=float(np.mean([one.e2e_s > late_s for one in found])),
        late_s=late_s,
        cost_usd=float(np.mean([one.cost_usd for one in found])),
        entropy=float(np.mean([one.entropy for one in found])),
    )
