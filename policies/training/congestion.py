"""What a decision costs the requests that meet it at the same model: the delay it causes, in rewards.

The decisions of the others are taken as they were. To first order that is the whole effect on the rest of
the pool: where followers choose well, moving one of them changes nothing (envelope theorem). So the return of
a decision keeps the rewards that it can touch and none of the noise of those that it cannot.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from policies.arrays import F64
from policies.compiled import compiled

_LEAST_DISCOUNT = 0.01
_LOOK_BACK = 64  # earlier requests of the same model that may still be decoding


class Served(NamedTuple):
    """S decisions, oldest first, of N pools; all [S, N]."""

    model: npt.NDArray[np.int64]  # -1 where there was no decision
    episode: npt.NDArray[np.int64]  # number of the episode; nothing acts from one to the next
    arrival_s: F64
    start_s: F64  # when its prefill began
    end_s: F64
    waited: npt.NDArray[np.bool_]  # came when every slot of the model was taken
    work_s: F64  # its share of the model's capacity: delays each who waits behind it
    prefill_s: F64  # engine time of its prompt: delays each who decodes meanwhile
    slope: F64  # reward that one more second of latency would have cost it


@compiled(fused=False)
def _behind(s: Served, k: int, n: int, horizon_s: float) -> float:
    """Of those that wait behind `k`, until the queue is empty once after its end."""
    total = 0.0
    for j in range(k + 1, s.model.shape[0]):
        if s.model[j, n] != s.model[k, n]:
            continue
        if s.episode[j, n] != s.episode[k, n]:
            break
        if s.waited[j, n]:
            discount = np.exp(-(s.arrival_s[j, n] - s.arrival_s[k, n]) / horizon_s)
            if discount < _LEAST_DISCOUNT:
                break
            total += discount * s.slope[j, n]
        elif s.arrival_s[j, n] >= s.end_s[k, n]:
            break
    return total * s.work_s[k, n]


@compiled(fused=False)
def _beside(s: Served, k: int, n: int) -> float:
    """Of those that decode while `k` is in prefill."""
    total, earlier = 0.0, 0
    for j in range(k - 1, -1, -1):
        if s.model[j, n] != s.model[k, n]:
            continue
        if s.episode[j, n] != s.episode[k, n] or earlier == _LOOK_BACK:
            break
        earlier += 1
        if s.end_s[j, n] > s.start_s[k, n]:
            total += s.slope[j, n]
    return total * s.prefill_s[k, n]


@compiled(fused=False)
def delay_cost(s: Served, horizon_s: float, count: int) -> F64:
    """[count, N] reward that each of the first decisions costs others.

    Those who come t seconds later count exp(-t / horizon_s).
    """
    cost = np.zeros((count, s.model.shape[1]))
    for n in range(s.model.shape[1]):
        for k in range(count):
            if s.model[k, n] >= 0:
                cost[k, n] = _behind(s, k, n, horizon_s) + _beside(s, k, n)
    return cost
