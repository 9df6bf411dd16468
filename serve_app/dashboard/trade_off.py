"""The view Trade-off: accuracy against latency and cost, and which models other weights would have chosen."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from deployments.records.records import DecisionRecord
from deployments.table.api import Transition
from policies.observation import MODEL_COLUMN, Observation
from policies.policy import Policy, PolicyError
from policies.utility import Weights
from serve_app.dashboard.observed import chosen, observation_of

PROMPTS: Final = 500
_COLUMNS: Final = {name: MODEL_COLUMN[name] for name in ("accuracy", "e2e_s", "cost_usd")}

Point = dict[str, float]


def trade_off(
    log: Sequence[Transition], profiles: dict[str, dict[str, float]], policy: str
) -> dict[str, Any]:
    """Where each model, their static mixes and each profile's `auto` stand over the newest prompts."""
    decided = [pair for pair in log if pair[0].is_dispatched and pair[0].rows][:PROMPTS]
    models = _models(pair[0] for pair in decided)
    by_profile: dict[str, list[Transition]] = {}
    for pair in decided:
        by_profile.setdefault(pair[0].profile, []).append(pair)
    return {
        "prompts": len(decided),
        "policy": policy,
        "models": models,
        "mixes": {axis: frontier(list(models.values()), axis) for axis in ("e2e_s", "cost_usd")},
        "profiles": [
            {"profile": name, "weights": profiles.get(name), **_stands(by_profile.get(name, []))}
            for name in sorted({*profiles, *by_profile})
        ],
    }


def _models(records: Iterable[DecisionRecord]) -> dict[str, Point]:
    """Mean predictions of each model over all prompts, those that it was masked for left out."""
    rows: dict[str, list[tuple[float, ...]]] = {}
    for record in records:
        for model, row, may in zip(record.models, record.rows, record.mask, strict=True):
            if may:
                rows.setdefault(model, []).append(tuple(row[at] for at in _COLUMNS.values()))
    return {model: {**_means(found), "prompts": float(len(found))} for model, found in sorted(rows.items())}


def _stands(pairs: Sequence[Transition]) -> dict[str, Any]:
    """The chosen models' predicted accuracy, and what the answers took and cost, where they ended."""
    found = []
    for record, outcome in pairs:
        row = record.rows[record.models.index(record.model)]
        e2e_s = None if outcome is None else outcome.outcome.e2e_s
        cost_usd = row[_COLUMNS["cost_usd"]] if outcome is None else outcome.outcome.cost_usd
        found.append((row[_COLUMNS["accuracy"]], e2e_s or row[_COLUMNS["e2e_s"]], cost_usd))
    shares = Counter(record.model for record, _ in pairs)
    return {"requests": len(pairs), "shares": dict(shares), **(_means(found) if found else {})}


def _means(rows: Sequence[tuple[float, ...]]) -> Point:
    means = np.asarray(rows, dtype=np.float64).mean(axis=0)
    return dict(zip(_COLUMNS, means.tolist(), strict=True))


def frontier(points: Sequence[Point], axis: str) -> list[Point]:
    """The best accuracy of any static mix at each mean of `axis`: the upper hull from the least to the best.

    A fixed mix of two models lies on the line between them, so that this is where the linear program of
    policies.baselines.static_mix ends without limits on load.
    """
    hull: list[Point] = []
    best = -np.inf
    for point in sorted(points, key=lambda one: (one[axis], -one["accuracy"])):
        if point["accuracy"] <= best:
            continue
        best = point["accuracy"]
        while len(hull) > 1 and _slope(hull[-1], point, axis) >= _slope(hull[-2], hull[-1], axis):
            hull.pop()
        hull.append(point)
    return [{axis: one[axis], "accuracy": one["accuracy"]} for one in hull]


def _slope(first: Point, second: Point, axis: str) -> float:
    return (second["accuracy"] - first["accuracy"]) / max(second[axis] - first[axis], 1e-12)


def counterfactual(
    log: Sequence[Transition], profile: str | None, weights: Weights, policy: Policy
) -> dict[str, Any]:
    """Which model `policy` would favour for each of the newest prompts under other weights."""
    counts, before, changed, rows = Counter[str](), Counter[str](), 0, list[tuple[float, ...]]()
    for record in _of_profile(log, profile):
        observation = observation_of(record, weights)
        index = None if observation is None else _favourite(policy, observation)
        if observation is None or index is None:
            continue
        model = observation.models[index]
        counts[model] += 1
        before[record.model] += 1
        changed += model != record.model
        rows.append(tuple(float(observation.rows[index, at]) for at in _COLUMNS.values()))
    return {
        "prompts": len(rows),
        "counts": dict(counts),
        "before": dict(before),
        "changed": changed,
        "expected": _means(rows) if rows else None,
    }


def _of_profile(log: Sequence[Transition], profile: str | None) -> list[DecisionRecord]:
    """The newest prompts that the policy decided, those of one profile where it is given."""
    found = (record for record, _ in log if record.is_dispatched)
    return [record for record in found if profile is None or record.profile == profile][:PROMPTS]


def _favourite(policy: Policy, observation: Observation) -> int | None:
    if not observation.mask.any():
        return None
    try:
        return chosen(policy.probabilities(observation))
    except PolicyError:
        return None
