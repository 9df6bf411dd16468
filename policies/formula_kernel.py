"""The formula and what is sampled of any policy's logits, compiled: for one request, M models."""

import math
from typing import Final

import numpy as np
from numba import types

from policies.arrays import F64, Bools
from policies.compiled import array, compiled, readonly

_TINY: Final = 1e-9
_WEIGHT, _ACCURACY, _E2E, _COST = 0, 1, 4, 6  # columns of a row, as policies.observation has them

_F64, _ROWS, _MASK = readonly(types.float64), readonly(types.float64, 2), readonly(types.boolean)


@compiled(array(types.float64)(_ROWS, _F64, _MASK))
def formula_utility(rows: F64, caller: F64, mask: Bools) -> F64:
    """[M] U_i of rows [M, F] and the caller's fields [C]; entries outside `mask` [M] mean nothing."""
    fastest, cheapest = math.inf, math.inf
    for m in range(len(rows)):
        if mask[m]:
            fastest, cheapest = min(fastest, rows[m, _E2E]), min(cheapest, rows[m, _COST])
    utility = np.zeros(len(rows))
    if fastest == math.inf:
        return utility
    for m in range(len(rows)):
        speed = min((fastest + _TINY) / (rows[m, _E2E] + _TINY), 1.0)
        utility[m] = caller[0] * rows[m, _ACCURACY] + caller[1] * speed
        if caller[2] != 0.0:
            utility[m] += caller[2] * min((cheapest + _TINY) / (rows[m, _COST] + _TINY), 1.0)
    return utility


@compiled(array(types.float64)(_ROWS, _F64, _MASK, types.float64))
def formula_logits(rows: F64, caller: F64, mask: Bools, beta: float) -> F64:
    """[M] beta * w_i * U_i; -inf where w_i is 0."""
    logits = formula_utility(rows, caller, mask)
    for m in range(len(rows)):
        weight = rows[m, _WEIGHT]
        logits[m] = beta * weight * logits[m] if weight > 0.0 else -math.inf
    return logits


@compiled(array(types.float64)(_F64, _MASK))
def masked_softmax(logits: F64, mask: Bools) -> F64:
    """[M] softmax over the entries where `mask` is True, 0 elsewhere; all 0 where none is allowed.

    All NaN where an allowed logit is NaN or +inf.
    """
    top, broken = -math.inf, False
    for m in range(len(logits)):
        if mask[m]:
            top = max(top, logits[m])
            broken |= not logits[m] < math.inf
    found = np.full(len(logits), math.nan if broken else 0.0)
    if broken or top == -math.inf:
        return found
    total = 0.0
    for m in range(len(logits)):
        if mask[m]:
            found[m] = math.exp(logits[m] - top)
            total += found[m]
    return found / total


@compiled(types.boolean(_F64, _ROWS, _MASK, types.float64, array(types.float64)))
def explored(distribution: F64, rows: F64, mask: Bools, epsilon: float, out: F64) -> bool:
    """Write [M] (1 - eps) * distribution + eps * uniform(plausible), 0 outside the mask.

    False where that is no distribution: an entry is not finite, is negative, or none is allowed.
    """
    total, least, plausible = 0.0, 0.0, 0
    for m in range(len(mask)):
        out[m] = distribution[m] if mask[m] else 0.0
        total += out[m]
        least = min(least, out[m])
        plausible += mask[m] and rows[m, _WEIGHT] > 0.0
    if not (0.0 < total < math.inf and least >= 0.0):
        return False
    share = epsilon if plausible else 0.0
    for m in range(len(mask)):
        out[m] = (1.0 - share) * (out[m] / total)
        if share > 0.0 and mask[m] and rows[m, _WEIGHT] > 0.0:
            out[m] += share / plausible
    return True
