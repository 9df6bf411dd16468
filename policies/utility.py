"""The formula: f = a1 * accuracy + a2 * relative speed + a3 * cheapness, weighted by w_i."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.arrays import F64, Bools
from policies.observation import Observation

_TINY: Final = 1e-9


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
