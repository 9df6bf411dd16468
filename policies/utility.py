"""The formula: f = a1 * accuracy + a2 * relative speed + a3 * cheapness, weighted by w_i."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import types

from policies.arrays import F64, Bools
from policies.compiled import array, compiled, readonly
from policies.observation import Observation

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


DEFAULT_BETA = 20.0  # utilities of a good and a bad choice differ by some tenths; 20 makes that decisive


@dataclass(frozen=True, slots=True)
class Weights:
    """The caller's trade-off: a1 (accuracy), a2 (latency), a3 (cost) of the formula, each >= 0."""

    accuracy: float = 1.0
    latency: float = 1.0
    cost: float = 0.0


def relative(amount: F64, mask: Bools) -> F64:
    """[M] best amount among the allowed over own amount, in (0, 1]; 1 for the smallest.

    Serves both RT_i = min_j latency_j / latency_i and cheapness_i = min_j cost_j / cost_i. An
    amount of 0 (a free model, an unknown latency) counts as the smallest.
    """
    best = float(np.minimum.reduce(amount, where=mask, initial=math.inf))
    if best == math.inf:
        return np.zeros_like(amount)
    return np.minimum((best + _TINY) / (amount + _TINY), 1.0)


def utility(accuracy: F64, latency_s: F64, cost_usd: F64, weights: Weights, mask: Bools) -> F64:
    """[M] f(x, p_i) = a1 * Acc_i + a2 * RT_i + a3 * cheapness_i; entries outside `mask` mean nothing."""
    speed = relative(latency_s, mask)
    value = weights.accuracy * accuracy + weights.latency * speed
    if weights.cost:
        value = value + weights.cost * relative(cost_usd, mask)
    return value


def observed_utility(observation: Observation) -> F64:
    """[M] U_i: the formula over *predicted* accuracy, end-to-end latency and cost."""
    accuracy, latency, cost = observation.caller[:3].tolist()
    return utility(
        observation.column("accuracy"),
        observation.column("e2e_s"),
        observation.column("cost_usd"),
        Weights(accuracy, latency, cost),
        observation.mask,
    )
