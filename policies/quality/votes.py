"""What users' votes add to a fitted quality model, prompt by prompt: the leaves of its forest move."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from policies.feedback_aggregate import KEY_CAP, Vote
from policies.observation import FloatArray
from policies.prompt.features import unpack
from policies.quality.model import QualityModel

LEAF_ANSWERS: Final = 8.0  # graded answers that a leaf's value is worth against votes
MAX_WEIGHT: Final = 10.0  # 1 / propensity is cut here: unbiasedness traded for variance
# Answers that one key is worth in a leaf at most, so that it decides KEY_CAP of the leaf's value.
_KEY_ANSWERS: Final = LEAF_ANSWERS * KEY_CAP / (1.0 - KEY_CAP)

IntArray = npt.NDArray[np.int64]


def with_votes(model: QualityModel, votes: Sequence[Vote], now_s: float, half_life_s: float) -> QualityModel:
    """The model with each leaf moved by what the votes on prompts in it found better or worse than predicted.

    In a leaf, a key's word on a model is r_k = sum w d (score - prediction) / sum w d over its votes, with
    w = 1 / propensity and d halved for each `half_life_s` of age. A leaf moves by sum_k c_k r_k /
    (LEAF_ANSWERS + sum_k c_k), where c_k is the effective sample size (sum w d)^2 / sum w^2 d, cut so that
    no key decides more than KEY_CAP. Votes without features or on models that the model does not know are
    left out. Raises ValueError for a propensity outside (0, 1].
    """
    known = [vote for vote in votes if vote.features and vote.model in model.models]
    if not known:
        return model
    leaves = model.arrays["leaves"]  # [L, M]
    keys = {key: i for i, key in enumerate(sorted({vote.key_id for vote in known}))}
    leaf = np.empty((len(known), len(model.arrays["roots"])), dtype=np.int64)
    residual = np.empty(len(known))
    column = np.array([model.models.index(vote.model) for vote in known])
    for row, vote in enumerate(known):
        prompt = unpack(vote.features)
        leaf[row] = model.leaves(prompt)
        residual[row] = vote.score - model.predict_all(prompt)[0, column[row]]
    weight = np.array([_weight(vote.propensity) for vote in known])
    age_s = np.maximum(now_s - np.array([vote.created_s for vote in known]), 0.0)
    moves = _moves(
        leaf * leaves.shape[1] + column[:, None], np.array([keys[vote.key_id] for vote in known]),
        residual, weight, np.exp2(-age_s / half_life_s), leaves.size,
    )  # fmt: skip
    moved = leaves + moves.reshape(leaves.shape).astype(np.float32)
    return QualityModel(model.manifest, {**model.arrays, "leaves": moved})


def _weight(propensity: float) -> float:
    """1 / propensity, at most MAX_WEIGHT."""
    if not 0.0 < propensity <= 1.0:
        raise ValueError(f"propensity: {propensity}, must be in (0, 1].")
    return min(1.0 / propensity, MAX_WEIGHT)


def _moves(
    cell: IntArray, key: IntArray, residual: FloatArray, weight: FloatArray, fresh: FloatArray, cells: int
) -> FloatArray:
    """[cells] by how much each moves: V votes, each in one of the cells of every tree, `cell` [V, T]."""
    keys, trees = int(key.max()) + 1, cell.shape[1]
    groups, group = np.unique(cell * keys + key[:, None], return_inverse=True)

    def total(values: FloatArray) -> FloatArray:
        return np.bincount(group.ravel(), np.repeat(values, trees)).astype(np.float64)

    weights = total(weight * fresh)
    word = total(weight * fresh * residual) / weights
    worth = np.minimum(weights**2 / total(weight**2 * fresh), _KEY_ANSWERS)
    cell_of = groups // keys
    pulled, answers = (np.bincount(cell_of, some, minlength=cells) for some in (worth * word, worth))
    moves: FloatArray = pulled / (LEAF_ANSWERS + answers)
    return moves
