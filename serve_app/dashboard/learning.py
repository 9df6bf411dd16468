"""The view Learning: what the policy earns, which versions there are, and what each had to show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from deployments.learning.live_evidence import Finished, finished, votes_by_decision
from deployments.learning.settings import LearnerSettings
from deployments.records.records import FeedbackRecord, PolicyEvent
from deployments.records.snapshot import Snapshot
from deployments.table.api import Transition
from policies.decider import version_name
from policies.observation import ACCURACY
from policies.promotion.rollout import RolloutState

BUCKETS: Final = 40
BINS: Final = 10
MARKS: Final = frozenset({"promoted", "rolled_back", "shadow", "canary", "paused", "resumed"})


def learning(
    snapshot: Snapshot,
    state: RolloutState,
    log: Sequence[Transition],
    feedback: Sequence[FeedbackRecord],
    events: Sequence[PolicyEvent],
    settings: LearnerSettings,
) -> dict[str, Any]:
    """All that the view shows, counted as the Learner counts."""
    votes = votes_by_decision(feedback, settings.feedback_metrics)
    ended = finished(log, votes, settings.target_s)
    return {
        "state": rollout(state),
        "curve": curve(ended),
        "marks": [
            {"at_s": one.at_s, "kind": one.kind, "version": version_name(one.version or None)}
            for one in events
            if one.kind in MARKS
        ],
        "versions": versions(events, state),
        "calibration": calibration(log, votes),
        "votes": len(votes),
        "evaluation": {
            model: {task: asdict(one) for task, one in sorted(row.accuracy.items())}
            for model, row in sorted(snapshot.models.items())
        },
    }


def rollout(state: RolloutState) -> dict[str, Any]:
    """Who serves, and who is on trial."""
    trial = state.candidate
    return {
        "active": version_name(state.active),
        "previous": None if state.active is None else version_name(state.previous),
        "paused": state.paused,
        "frozen_since_s": state.frozen_since_s,
        "candidate": trial and {**asdict(trial), "name": version_name(trial.version)},
    }


def curve(ended: Sequence[Finished]) -> list[dict[str, Any]]:
    """Mean reward and regret of the policy's requests over time, in at most BUCKETS steps of equal length.

    Regret is what the best allowed model was expected to earn above the chosen one.
    """
    if not ended:
        return []
    first_s, last_s = ended[0].result.finished_s, ended[-1].result.finished_s
    step_s = max((last_s - first_s) / BUCKETS, 1.0)
    buckets: dict[int, list[Finished]] = {}
    for one in ended:
        at = min(int((one.result.finished_s - first_s) / step_s), BUCKETS - 1)
        buckets.setdefault(at, []).append(one)
    return [
        {
            "at_s": first_s + (at + 0.5) * step_s,
            "reward": float(np.mean([one.reward for one in bucket])),
            "regret": float(np.mean([_regret(one) for one in bucket])),
            "requests": len(bucket),
        }
        for at, bucket in sorted(buckets.items())
    ]


def _regret(one: Finished) -> float:
    best = float(one.expected[one.observation.mask].max())
    return max(0.0, best - float(one.expected[one.index]))


def versions(events: Iterable[PolicyEvent], state: RolloutState) -> list[dict[str, Any]]:
    """Every version with its steps, newest first; a verdict has its gate, reason and numbers."""
    steps: dict[int, list[dict[str, Any]]] = {}
    for event in sorted(events, key=lambda one: one.at_s):
        told = {"at_s": event.at_s, "kind": event.kind, "detail": _detail(event.detail)}
        steps.setdefault(event.version, []).append(told)
    return [
        {
            "version": version,
            "name": version_name(version or None),
            "is_active": version == (state.active or 0),
            "steps": steps[version],
        }
        for version in sorted(steps, reverse=True)
    ]


def _detail(detail: Mapping[str, object]) -> dict[str, object]:
    """An event's detail without the curves of its training."""
    return {name: value for name, value in detail.items() if name != "curve"}


def calibration(log: Iterable[Transition], votes: Mapping[str, float]) -> list[dict[str, float]]:
    """Predicted accuracy of the chosen model against the votes on its answers, in bins of a tenth."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for decision, _ in log:
        vote = votes.get(decision.decision_id)
        if vote is None or not decision.rows or decision.model not in decision.models:
            continue
        predicted = decision.rows[decision.models.index(decision.model)][ACCURACY]
        bins.setdefault(min(int(predicted * BINS), BINS - 1), []).append((predicted, vote))
    return [
        {
            "predicted": float(np.mean([predicted for predicted, _ in pairs])),
            "voted": float(np.mean([vote for _, vote in pairs])),
            "count": float(len(pairs)),
        }
        for _, pairs in sorted(bins.items())
    ]
