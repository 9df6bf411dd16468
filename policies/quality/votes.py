"""What users' votes add to a fitted quality model, prompt by prompt: the leaves of its forest move."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.arrays import F64, I64
from policies.prompt.features import unpack
from policies.quality.model import QualityModel

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


def key_weights(votes: F64) -> F64:
    """[K] weights of keys with `votes` [K] each: at most KEY_CAP, at most 1 in sum."""
    uncapped = votes / (votes + PRIOR_VOTES)
    weights = np.minimum(uncapped / uncapped.sum(), KEY_CAP)
    for _ in range(
        len(weights)
    ):  # what the cap cut off goes to the others, until all are capped or it is spent
        spare, free = 1.0 - weights.sum(), weights < KEY_CAP
        if spare <= 1e-12 or not free.any():
            break
        weights[free] = np.minimum(weights[free] + spare * uncapped[free] / uncapped[free].sum(), KEY_CAP)
    return weights


def _robust_mean(by_key: Mapping[str, list[float]], prior: float) -> VotedScore:
    counts = np.array([len(scores) for scores in by_key.values()], dtype=np.float64)
    means = np.array([sum(scores) / len(scores) for scores in by_key.values()])
    weights = key_weights(counts)
    share = float(weights.sum())
    mean = float(weights @ means + (1.0 - share) * prior)
    return VotedScore(min(max(mean, 0.0), 1.0), share, len(counts), int(counts.sum()))


LEAF_ANSWERS: Final = 8.0  # graded answers that a leaf's value is worth against votes
MAX_WEIGHT: Final = 10.0  # 1 / propensity is cut here: unbiasedness traded for variance
# Answers that one key is worth in a leaf at most, so that it decides KEY_CAP of the leaf's value.
_KEY_ANSWERS: Final = LEAF_ANSWERS * KEY_CAP / (1.0 - KEY_CAP)


def with_votes(model: QualityModel, votes: Sequence[Vote], now_s: float, half_life_s: float) -> QualityModel:
    """The model with each leaf moved by what the votes on prompts in it found better or worse than predicted.

    In a leaf, a key's word on a model is r_k = sum w d (score - prediction) / sum w d over its votes, with
    w = 1 / propensity and d halved for each `half_life_s` of age. A leaf moves by sum_k c_k r_k /
    (LEAF_ANSWERS + sum_k c_k), where c_k is the effective sample size (sum w d)^2 / sum w^2 d, cut so that
    no key decides more than KEY_CAP. Votes without features or on models that the model does not know are
    left out. Raises ValueError for a propensity outside (0, 1].
    """
    usable = [vote for vote in votes if vote.features and vote.model in model.models]
    if not usable:
        return model
    leaves = model.arrays["leaves"]  # [L, M]
    keys = {key: i for i, key in enumerate(sorted({vote.key_id for vote in usable}))}
    leaf = np.empty((len(usable), len(model.arrays["roots"])), dtype=np.int64)
    residual = np.empty(len(usable))
    column = np.array([model.models.index(vote.model) for vote in usable])
    for row, vote in enumerate(usable):
        prompt = unpack(vote.features)
        leaf[row] = model.leaves(prompt)
        residual[row] = vote.score - model.predict_all(prompt)[0, column[row]]
    weight = np.array([_weight(vote.propensity) for vote in usable])
    age_s = np.maximum(now_s - np.array([vote.created_s for vote in usable]), 0.0)
    moves = _moves(
        leaf * leaves.shape[1] + column[:, None], np.array([keys[vote.key_id] for vote in usable]),
        residual, weight, np.exp2(-age_s / half_life_s), leaves.size,
    )  # fmt: skip
    moved = leaves + moves.reshape(leaves.shape).astype(np.float32)
    return QualityModel(model.manifest, {**model.arrays, "leaves": moved})


def _weight(propensity: float) -> float:
    """1 / propensity, at most MAX_WEIGHT."""
    if not 0.0 < propensity <= 1.0:
        raise ValueError(f"propensity: {propensity}, must be in (0, 1].")
    return min(1.0 / propensity, MAX_WEIGHT)


def _moves(cell: I64, key: I64, residual: F64, weight: F64, fresh: F64, cells: int) -> F64:
    """[cells] by how much each moves: V votes, each in one of the cells of every tree, `cell` [V, T]."""
    keys, trees = int(key.max()) + 1, cell.shape[1]
    groups, group = np.unique(cell * keys + key[:, None], return_inverse=True)

    def total(values: F64) -> F64:
        return np.bincount(group.ravel(), np.repeat(values, trees)).astype(np.float64)

    weights = total(weight * fresh)
    opinion = total(weight * fresh * residual) / weights
    strength = np.minimum(weights**2 / total(weight**2 * fresh), _KEY_ANSWERS)
    cell_of = groups // keys
    amounts = strength * opinion, strength
    pulled, answers = (np.bincount(cell_of, amount, minlength=cells) for amount in amounts)
    moves: F64 = pulled / (LEAF_ANSWERS + answers)
    return moves
