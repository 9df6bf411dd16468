"""The formula, f = a1 * accuracy + a2 * relative speed + a3 * cheapness, and what is sampled of logits."""

import math
from typing import Final

import numpy as np

from policies import observation as column
from policies.arrays import F64, Bools
from policies.compiled import array, compiled, readonly, types
from policies.observation import CALLER_FIELDS, MODEL_FIELDS, Observation
from policies.utility import Weights

_TINY: Final = 1e-9
_F64, _ROWS, _MASK = readonly(types.float64), readonly(types.float64, 2), readonly(types.boolean)


@compiled()
def ratio(best: float, amount: float) -> float:
    """The best amount over another, in (0, 1]; 0, as a free model costs, counts as the smallest amount."""
    return min((best + _TINY) / (amount + _TINY), 1.0)


@compiled()
def model_utility(row: F64, caller: F64, fastest_s: float, cheapest_usd: float) -> float:
    """f of one model's row [F] for the caller's fields [C], where the best of the pool are known."""
    speed = ratio(fastest_s, row[column.E2E_S])
    value = caller[column.ACCURACY_WEIGHT] * row[column.ACCURACY] + caller[column.LATENCY_WEIGHT] * speed
    if caller[column.COST_WEIGHT] != 0.0:
        value += caller[column.COST_WEIGHT] * ratio(cheapest_usd, row[column.COST_USD])
    return value


@compiled(array(types.float64)(_ROWS, _F64, _MASK))
def formula_utility(rows: F64, caller: F64, mask: Bools) -> F64:
    """[M] U_i of rows [M, F] and the caller's fields [C]; entries outside `mask` [M] mean nothing."""
    fastest_s, cheapest_usd = math.inf, math.inf
    for m in range(len(rows)):
        if mask[m]:
            fastest_s = min(fastest_s, rows[m, column.E2E_S])
            cheapest_usd = min(cheapest_usd, rows[m, column.COST_USD])
    utility = np.zeros(len(rows))
    if fastest_s == math.inf:
        return utility
    for m in range(len(rows)):
        utility[m] = model_utility(rows[m], caller, fastest_s, cheapest_usd)
    return utility


@compiled()
def weighted(utility: F64, rows: F64, beta: float) -> F64:
    """[M] beta * w_i * U_i in place of the U_i of `utility`; -inf where w_i is 0."""
    for m in range(len(rows)):
        weight = rows[m, column.WEIGHT]
        utility[m] = beta * weight * utility[m] if weight > 0.0 else -math.inf
    return utility


@compiled(array(types.float64)(_ROWS, _F64, _MASK, types.float64))
def formula_logits(rows: F64, caller: F64, mask: Bools, beta: float) -> F64:
    """[M] beta * w_i * U_i; -inf where w_i is 0."""
    return weighted(formula_utility(rows, caller, mask), rows, beta)


@compiled(array(types.float64)(_F64, _MASK))
def _relative(amount: F64, mask: Bools) -> F64:
    best = math.inf
    for m in range(len(amount)):
        if mask[m]:
            best = min(best, amount[m])
    ratios = np.zeros(len(amount))
    if best == math.inf:
        return ratios
    for m in range(len(amount)):
        ratios[m] = ratio(best, amount[m])
    return ratios


def relative(amount: F64, mask: Bools) -> F64:
    """[M] best amount among the allowed over own amount, in (0, 1]; 1 for the smallest, 0 if none is allowed.

    Serves both RT_i = min_j latency_j / latency_i and cheapness_i = min_j cost_j / cost_i.
    """
    ratios: F64 = _relative(np.ascontiguousarray(amount, dtype=np.float64), mask)
    return ratios


def utility(accuracy: F64, latency_s: F64, cost_usd: F64, weights: Weights, mask: Bools) -> F64:
    """[M] f(x, p_i) = a1 * Acc_i + a2 * RT_i + a3 * cheapness_i; entries outside `mask` mean nothing."""
    rows, caller = np.zeros((len(accuracy), len(MODEL_FIELDS))), np.zeros(len(CALLER_FIELDS))
    rows[:, column.ACCURACY], rows[:, column.E2E_S], rows[:, column.COST_USD] = accuracy, latency_s, cost_usd
    caller[column.ACCURACY_WEIGHT], caller[column.LATENCY_WEIGHT] = weights.accuracy, weights.latency
    caller[column.COST_WEIGHT] = weights.cost
    value: F64 = formula_utility(rows, caller, mask)
    return value


def observed_utility(observation: Observation) -> F64:
    """[M] U_i: the formula over *predicted* accuracy, end-to-end latency and cost."""
    value: F64 = formula_utility(observation.rows, observation.caller, observation.mask)
    return value


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
    probabilities = np.full(len(logits), math.nan if broken else 0.0)
    if broken or top == -math.inf:
        return probabilities
    total = 0.0
    for m in range(len(logits)):
        if mask[m]:
            probabilities[m] = math.exp(logits[m] - top)
            total += probabilities[m]
    return probabilities / total


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
        plausible += mask[m] and rows[m, column.WEIGHT] > 0.0
    if not (0.0 < total < math.inf and least >= 0.0):
        return False
    share = epsilon if plausible else 0.0
    for m in range(len(mask)):
        out[m] = (1.0 - share) * (out[m] / total)
        if share > 0.0 and mask[m] and rows[m, column.WEIGHT] > 0.0:
            out[m] += share / plausible
    return True
