"""A floor under single answers: how high a prediction must be, so that few answers fall below the floor.

Split conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster 2022) on answers that the quality
model did not see. The risk is counted for the model with the lowest prediction among those that are let
through, so that it is no higher for whatever a policy chooses of them.
"""

import math
from typing import Final

import numpy as np

from policies.arrays import F64, I64

_STEPS: Final = 200  # thresholds that are tried
_EXACT: Final = 1e-9  # below the floor by less is at the floor: scores are kept in single precision


def lowest_allowed(predicted: F64, threshold: float) -> I64:
    """[N] of predicted scores [N, M] the model with the lowest prediction from `threshold` on.

    Where none is, the model with the highest one.
    """
    allowed = predicted >= threshold
    lowest = np.where(allowed, predicted, np.inf).argmin(axis=1)
    found: I64 = np.where(allowed.any(axis=1), lowest, predicted.argmax(axis=1))
    return found


def risk(predicted: F64, scores: F64, floor: float, threshold: float) -> float:
    """Share of the answers below `floor`, over the prompts whose answer is known (NaN: unknown), with the one
    answer to come counted as below: (n * share + 1) / (n + 1)."""
    rows = np.arange(len(predicted))
    chosen = scores[rows, lowest_allowed(predicted, threshold)]
    known = np.isfinite(chosen)
    below = int((chosen[known] < floor - _EXACT).sum())
    return (below + 1.0) / (int(known.sum()) + 1.0)


def threshold_for(predicted: F64, scores: F64, floor: float, alpha: float) -> float:
    """The smallest threshold from which on the risk is at most `alpha`.

    Infinite where not even the model with the highest prediction keeps to it: then `alpha` cannot be reached.
    `predicted` [N, M] must be of models that were fitted without the prompt.
    """
    steps = np.quantile(predicted, np.linspace(0.0, 1.0, _STEPS))
    found = math.inf
    for step in (math.inf, *np.unique(steps)[::-1].tolist()):
        if risk(predicted, scores, floor, step) > alpha:
            break
        found = step
    return found


def is_reachable(predicted: F64, scores: F64, floor: float, alpha: float) -> bool:
    """Whether choosing the highest prediction keeps the risk at `alpha`."""
    return risk(predicted, scores, floor, math.inf) <= alpha
