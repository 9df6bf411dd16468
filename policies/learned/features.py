"""Observations as the network's input: unbounded quantities in logs, others relative to target or pool.

One compiled function serves training (a batch of simulated requests) and serving (one request), so they
cannot differ.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from policies import observation as column
from policies.arrays import F32, F64, Bools
from policies.compiled import array, compiled, readonly, types
from policies.formula import model_utility, ratio
from policies.observation import PROMPT_FIELDS
from policies.priced import cost_shares, load, work_s
from policies.priced import model_utility as priced_model_utility
from policies.reward import NO_TARGET_S, expected_lateness

Array = npt.NDArray[np.floating]

LOG_FEATURES: Final = (  # log(1 + x)
    "ttft",  # ttft / target
    "e2e",  # e2e / target
    "service",  # tpot * predicted output / target
    "load",  # in flight / slots
    "queue",  # waiting / slots
    "cost",  # cost / $0.001
    "slots",
    "replicas",
    "tpot",  # tpot / 10 ms
)
DIRECT_FEATURES: Final = ("weight", "accuracy", "accuracy_std", "kv_use", "error_rate", "cold", "age_s")
RELATIVE_FEATURES: Final = (
    "lateness",  # expected share of the latency weight that is lost, over ANSWER_SPREAD
    "speed",  # fastest allowed e2e / own e2e
    "cheapness",  # cheapest allowed / own cost
    "cost_share",  # own cost / dearest allowed, at most 4
    "claim",  # tpot * predicted output / slots: seconds of the model's capacity, at most 4
    "claim_in_time",  # claim * (1 - lateness): capacity taken from requests that can still be in time
    "weighted_accuracy",  # 3 a1 / (a1 + a2 + a3) * accuracy
    "weighted_lateness",  # 3 a2 / (a1 + a2 + a3) * lateness
    "weighted_cost",  # 3 a3 / (a1 + a2 + a3) * cost / $0.001, cost at most $0.02
    "weighted_claim",  # 3 a2 / (a1 + a2 + a3) * claim_in_time
    "claim_load",  # weighted_claim * in flight / slots, at most 4 of it
    "claim_queue",  # weighted_claim * (in flight / slots above 1), at most 3 of it
    "accuracy_gap",  # to the best allowed, in [-4, 0]
    "formula_gap",  # U_i / sum of the weights, to the best allowed, in [-4, 0]
    "reward_gap",  # predicted reward / sum of the weights, to the best allowed, in [-4, 0]
)
PROMPT_FEATURES: Final = tuple(field.name for field in PROMPT_FIELDS)
CALLER_FEATURES: Final = ("accuracy_weight", "latency_weight", "cost_weight", "has_target", "target")
FEATURES: Final = LOG_FEATURES + DIRECT_FEATURES + RELATIVE_FEATURES + PROMPT_FEATURES + CALLER_FEATURES

_RELATIVE: Final = len(LOG_FEATURES) + len(DIRECT_FEATURES)  # first of the relative features
_REQUEST: Final = _RELATIVE + len(RELATIVE_FEATURES)  # first of those that all models share
_GAPS: Final = _REQUEST - 3
_SIZE: Final = len(FEATURES)
_TINY: Final = 1e-9
_MOST: Final = 4.0


def network_inputs(rows: Array, prompt: Array, caller: Array, mask: Bools) -> tuple[F32, F64]:
    """([..., M, K] features, [..., M] U_i) of rows [..., M, F], prompt [..., P], caller [..., 4], mask.

    K columns in the order of FEATURES; U_i is the utility of policies.priced.
    """
    models = rows.shape[-2]
    features = np.empty((*rows.shape[:-1], len(FEATURES)), dtype=np.float32)
    utility = np.empty(rows.shape[:-1])
    _write_batch(
        np.ascontiguousarray(rows, dtype=np.float64).reshape(-1, models, rows.shape[-1]),
        np.ascontiguousarray(prompt, dtype=np.float64).reshape(-1, prompt.shape[-1]),
        np.ascontiguousarray(caller, dtype=np.float64).reshape(-1, caller.shape[-1]),
        np.ascontiguousarray(mask).reshape(-1, models),
        features.reshape(-1, models, len(FEATURES)),
        utility.reshape(-1, models),
    )
    return features, utility


@compiled()
def _write_own(rows: F64, output_tokens: float, scale_s: float, out: F32) -> None:
    """LOG_FEATURES and DIRECT_FEATURES."""
    for m in range(len(rows)):
        row, to = rows[m], out[m]
        room = max(row[column.SLOTS], 1.0)
        to[0] = math.log1p(row[column.TTFT_S] / scale_s)
        to[1] = math.log1p(row[column.E2E_S] / scale_s)
        to[2] = math.log1p(row[column.TPOT_S] * (output_tokens / scale_s))
        to[3] = math.log1p(row[column.IN_FLIGHT] / room)
        to[4] = math.log1p(row[column.WAITING] / room)
        to[5] = math.log1p(row[column.COST_USD] * 1e3)
        to[6] = math.log1p(row[column.SLOTS])
        to[7] = math.log1p(row[column.REPLICAS])
        to[8] = math.log1p(row[column.TPOT_S] * 100.0)
        to[9] = row[column.WEIGHT]
        to[10] = row[column.ACCURACY]
        to[11] = row[column.ACCURACY_STD]
        to[12] = row[column.KV_USE]
        to[13] = row[column.ERROR_RATE]
        to[14] = row[column.COLD]
        to[15] = row[column.AGE_S]


@compiled()
def _write_relative(
    rows: F64, output_tokens: float, caller: F64, mask: Bools, out: F32, utility: F64
) -> None:
    """RELATIVE_FEATURES and the utility."""
    fastest, cheapest, shares = math.inf, math.inf, cost_shares(rows, mask)
    for m in range(len(rows)):
        if mask[m]:
            fastest, cheapest = min(fastest, rows[m, column.E2E_S]), min(cheapest, rows[m, column.COST_USD])
    a1, a2, a3 = caller[column.ACCURACY_WEIGHT], caller[column.LATENCY_WEIGHT], caller[column.COST_WEIGHT]
    total = a1 + a2 + a3 + _TINY
    best = np.full(3, -math.inf)  # accuracy, utility, predicted reward of the allowed
    gaps = np.empty((len(rows), 3))
    for m in range(len(rows)):
        row, to, gap = rows[m], out[m, _RELATIVE:], gaps[m]
        late = expected_lateness(row[column.TTFT_S], row[column.E2E_S], caller[column.TARGET_S])
        speed, cheapness = ratio(fastest, row[column.E2E_S]), ratio(cheapest, row[column.COST_USD])
        share = shares[m]
        claim, busy = work_s(row, output_tokens), load(row)
        in_time, gained = claim * (1.0 - late), a1 * row[column.ACCURACY]
        formula = model_utility(row, caller, fastest, cheapest)
        utility[m] = priced_model_utility(row, caller, late, share, output_tokens)
        to[0], to[1], to[2], to[3], to[4], to[5] = late, speed, cheapness, share, claim, in_time
        to[6] = 3.0 * gained / total
        to[7] = 3.0 * a2 / total * late
        to[8] = 3.0 * a3 / total * min(row[column.COST_USD] * 1e3, 20.0)
        to[9] = 3.0 * a2 / total * in_time
        to[10] = to[9] * busy
        to[11] = to[9] * max(busy - 1.0, 0.0)
        gap[0], gap[1] = row[column.ACCURACY], formula / total
        gap[2] = (gained - a2 * late - a3 * share) / total
        if mask[m]:
            best = np.maximum(best, gap)
    for m in range(len(rows)):
        for i in range(3):
            out[m, _GAPS + i] = max(gaps[m, i] - best[i], -_MOST)


@compiled()
def _write_request(prompt: F64, caller: F64, scale_s: float, out: F32) -> None:
    """PROMPT_FEATURES and CALLER_FEATURES, the same for every model."""
    shared = np.empty(out.shape[1] - _REQUEST)
    size = len(prompt)
    shared[:size] = prompt
    shared[column.PROMPT_TOKENS] = math.log1p(prompt[column.PROMPT_TOKENS]) * 0.125
    shared[column.OUTPUT_TOKENS] = math.log1p(prompt[column.OUTPUT_TOKENS]) * 0.125
    shared[column.TURNS] = math.log1p(prompt[column.TURNS])
    total = (
        caller[column.ACCURACY_WEIGHT] + caller[column.LATENCY_WEIGHT] + caller[column.COST_WEIGHT] + _TINY
    )
    for i in range(3):
        shared[size + i] = caller[i] / total
    shared[size + 3] = 1.0 if caller[column.TARGET_S] > 0.0 else 0.0
    shared[size + 4] = math.log1p(scale_s) * 0.25
    for m in range(len(out)):
        out[m, _REQUEST:] = shared


@compiled()
def _write(rows: F64, prompt: F64, caller: F64, mask: Bools, out: F32, utility: F64) -> None:
    """Write the features [M, K] and U_i [M] of one request, see network_inputs."""
    target_s = caller[column.TARGET_S]
    scale_s = target_s if target_s > 0.0 else NO_TARGET_S
    _write_own(rows, prompt[column.OUTPUT_TOKENS], scale_s, out)
    _write_relative(rows, prompt[column.OUTPUT_TOKENS], caller, mask, out, utility)
    _write_request(prompt, caller, scale_s, out)


_F64, _F64_2, _F64_3 = readonly(types.float64), readonly(types.float64, 2), readonly(types.float64, 3)
_OUT, _OUT_2, _OUT_3 = (array(types.float64), array(types.float64, 2), array(types.float32, 3))


@compiled(types.void(_F64_3, _F64_2, _F64_2, readonly(types.boolean, 2), _OUT_3, _OUT_2))
def _write_batch(rows: F64, prompt: F64, caller: F64, mask: Bools, out: F32, utility: F64) -> None:
    for b in range(len(rows)):
        _write(rows[b], prompt[b], caller[b], mask[b], out[b], utility[b])


@compiled(types.Tuple((array(types.float32, 2), _OUT))(_F64_2, _F64, _F64, readonly(types.boolean)))
def request_inputs(rows: F64, prompt: F64, caller: F64, mask: Bools) -> tuple[F32, F64]:
    """([M, K] features, [M] U_i) of one request: network_inputs for serving, where microseconds count."""
    features = np.empty((len(rows), _SIZE), dtype=np.float32)
    utility = np.empty(len(rows))
    _write(rows, prompt, caller, mask, features, utility)
    return features, utility
