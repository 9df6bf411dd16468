"""Robust means of users' votes: no key moves an estimate by more than the cap, or past the evaluation."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.observation import FloatArray

KEY_CAP: Final = 0.05  # share of an estimate that one key may decide
PRIOR_VOTES: Final = 5.0  # a key of few votes counts n / (n + this) of a key of many


@dataclass(frozen=True, slots=True)
class Vote:
    """One key's score in [0, 1] of one answer of a model: to which prompt (packed features), with which
    chance of being chosen, when."""

    key_id: str
    model: str
    score: float
    features: bytes = b""
    propensity: float = 1.0
    created_s: float = 0.0  # wall clock


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the evaluation says of a model: mean score, its 95 % interval, items."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class VotedScore:
    """Robust mean of the votes on one model. `share` in [0, 1] is how much of it the votes decide."""

    mean: float
    share: float
    keys: int
    votes: int


def aggregate(votes: Iterable[Vote], priors: Mapping[str, float]) -> dict[str, VotedScore]:
    """The score of each voted model: sum_k w_k * m_k + (1 - sum_k w_k) * prior.

    m_k is the mean of key k's votes; w_k <= KEY_CAP grows with their number. Where too few keys voted for
    the caps to sum to 1 the prior (the evaluation's mean, else 0.5) takes the rest. One more key only
    lowers the others' weights, in sum by its own, so it moves an estimate by at most KEY_CAP whatever
    its share of the traffic. Trimming extreme keys would not have that bound: a quantile can jump.
    """
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for vote in votes:
        if not 0.0 <= vote.score <= 1.0:
            raise ValueError(f"score: {vote.score}, must be in [0, 1].")
        scores[vote.model][vote.key_id].append(vote.score)
    return {model: _robust_mean(by_key, priors.get(model, 0.5)) for model, by_key in scores.items()}


def anchored(evaluation: Anchor, voted: VotedScore | None) -> float:
    """The evaluation's mean, moved towards the votes, and never out of its 95 % interval.

    Votes weigh as much as they are many, `votes * share` against the evaluation's `count` items.
    """
    if voted is None or voted.votes == 0:
        return evaluation.mean
    weight = voted.votes * voted.share
    mixed = (evaluation.count * evaluation.mean + weight * voted.mean) / (evaluation.count + weight)
    return min(max(mixed, evaluation.low), evaluation.high)


def key_weights(votes: FloatArray) -> FloatArray:
    """[K] weights of keys with `votes` [K] each: at most KEY_CAP, at most 1 in sum."""
    wanted = votes / (votes + PRIOR_VOTES)
    weights = np.minimum(wanted / wanted.sum(), KEY_CAP)
    for _ in range(
        len(weights)
    ):  # what the cap cut off goes to the others, until all are capped or it is spent
        spare, free = 1.0 - weights.sum(), weights < KEY_CAP
        if spare <= 1e-12 or not free.any():
            break
        weights[free] = np.minimum(weights[free] + spare * wanted[free] / wanted[free].sum(), KEY_CAP)
    return weights


def _robust_mean(by_key: Mapping[str, list[float]], prior: float) -> VotedScore:
    counts = np.array([len(scores) for scores in by_key.values()], dtype=np.float64)
    means = np.array([sum(scores) / len(scores) for scores in by_key.values()])
    weights = key_weights(counts)
    share = float(weights.sum())
    mean = float(weights @ means + (1.0 - share) * prior)
    return VotedScore(min(max(mean, 0.0), 1.0), share, len(counts), int(counts.sum()))
