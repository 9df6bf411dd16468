"""Observations as the network's input: unbounded quantities in logs, others relative to target or pool.

One function serves training (a batch of simulated requests) and serving (one request), so they cannot differ.
Features of one kind lie side by side, so that few numpy calls make them: a request has 150 us in all.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from policies.observation import MODEL_COLUMN, PROMPT_COLUMN
from policies.reward import NO_TARGET_S

Array = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

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
    "lateness",  # share of the latency weight lost at the predicted e2e
    "speed",  # fastest allowed e2e / own e2e
    "cheapness",  # cheapest allowed / own cost
    "cost_share",  # own cost / dearest allowed, at most 4
    "claim",  # tpot * predicted output / slots: seconds of the model's capacity, at most 4
    "claim_in_time",  # claim * (1 - lateness): capacity taken from requests that can still be in time
    "weighted_accuracy",  # 3 a1 / (a1 + a2 + a3) * accuracy
    "weighted_lateness",  # 3 a2 / (a1 + a2 + a3) * lateness
    "weighted_cost",  # 3 a3 / (a1 + a2 + a3) * cost / $0.001, cost at most $0.02
    "weighted_claim",  # 3 a2 / (a1 + a2 + a3) * claim_in_time
    "accuracy_gap",  # to the best allowed, in [-4, 0]
    "formula_gap",  # U_i / sum of the weights, to the best allowed, in [-4, 0]
    "reward_gap",  # predicted reward / sum of the weights, to the best allowed, in [-4, 0]
)
PROMPT_FEATURES: Final = (
    "prompt_tokens", "output_tokens", "turns", "cjk_share",
    "digit_share", "code_hint", "maths_hint", "structure_hint",
)  # fmt: skip
CALLER_FEATURES: Final = ("accuracy_weight", "latency_weight", "cost_weight", "has_target", "target")
FEATURES: Final = LOG_FEATURES + DIRECT_FEATURES + RELATIVE_FEATURES + PROMPT_FEATURES + CALLER_FEATURES

_TINY: Final = 1e-9
_LOGS: Final = len(LOG_FEATURES)
_DIRECT: Final = _LOGS + len(DIRECT_FEATURES)
_RELATIVE: Final = _DIRECT + len(RELATIVE_FEATURES)
_PROMPT: Final = _RELATIVE + len(PROMPT_FEATURES)
_COLUMN: Final = MODEL_COLUMN
_DIRECT_COLUMNS: Final = np.array([MODEL_COLUMN[name] for name in DIRECT_FEATURES])
_TIMES: Final = np.array([MODEL_COLUMN["ttft_s"], MODEL_COLUMN["e2e_s"]])
_AMOUNTS: Final = np.array([MODEL_COLUMN["e2e_s"], MODEL_COLUMN["cost_usd"]])


def network_inputs(
    rows: Array, prompt: Array, caller: Array, mask: Mask
) -> tuple[npt.NDArray[np.float32], Array]:
    """([..., M, K] features, [..., M] U_i) of rows [..., M, F], prompt [..., P], caller [..., 4], mask.

    K columns in the order of FEATURES; U_i is the formula's utility, as utility.observed_utility gives it.
    """
    out = np.empty((*rows.shape[:-1], len(FEATURES)), dtype=np.float32)
    target = caller[..., None, 3]
    scale_s = np.where(target > 0.0, target, NO_TARGET_S)
    _write_logs(rows, prompt, scale_s, out)
    out[..., _LOGS:_DIRECT] = rows.take(_DIRECT_COLUMNS, axis=-1)
    utility = _write_relative(rows, prompt, caller, mask, scale_s, out)
    _write_request(prompt, caller, scale_s, out)
    return out, utility


def _write_logs(rows: Array, prompt: Array, scale_s: Array, out: npt.NDArray[np.float32]) -> None:
    slots = rows[..., _COLUMN["slots"]]
    room = np.maximum(slots, 1.0)
    tpot = rows[..., _COLUMN["tpot_s"]]
    out[..., 0:2] = rows.take(_TIMES, axis=-1) / scale_s[..., None]
    out[..., 2] = tpot * (prompt[..., None, PROMPT_COLUMN["output_tokens"]] / scale_s)
    out[..., 3] = rows[..., _COLUMN["in_flight"]] / room
    out[..., 4] = rows[..., _COLUMN["waiting"]] / room
    out[..., 5] = rows[..., _COLUMN["cost_usd"]] * 1e3
    out[..., 6] = slots
    out[..., 7] = rows[..., _COLUMN["replicas"]]
    out[..., 8] = tpot * 100.0
    logs = out[..., :_LOGS]
    np.log1p(logs, out=logs)


def _write_relative(
    rows: Array, prompt: Array, caller: Array, mask: Mask, scale_s: Array, out: npt.NDArray[np.float32]
) -> Array:
    """Writes the relative features; returns U [..., M]."""
    keep = mask[..., None]
    accuracy_weight, latency_weight, cost_weight = (caller[..., None, i] for i in range(3))
    amounts = rows.take(_AMOUNTS, axis=-1)  # [..., M, 2] latency and cost
    least = np.where(keep, amounts, np.inf).min(axis=-2, keepdims=True)
    relative = np.minimum((least + _TINY) / (amounts + _TINY), 1.0)
    cost = amounts[..., 1]
    dearest = np.where(mask, cost, 0.0).max(axis=-1, keepdims=True)
    share = np.minimum(cost / (dearest + _TINY), 4.0)
    late = np.minimum(np.maximum((amounts[..., 0] - caller[..., None, 3]) / scale_s, 0.0), 1.0)
    accuracy = rows[..., _COLUMN["accuracy"]]
    gained = accuracy_weight * accuracy
    utility: Array = gained + latency_weight * relative[..., 0] + cost_weight * relative[..., 1]
    total = accuracy_weight + latency_weight + cost_weight + _TINY
    gaps = np.empty((*accuracy.shape, 3))
    gaps[..., 0] = accuracy
    gaps[..., 1] = utility / total
    gaps[..., 2] = (gained - latency_weight * late - cost_weight * share) / total
    gaps -= np.where(keep, gaps, -np.inf).max(axis=-2, keepdims=True)
    claim = rows[..., _COLUMN["tpot_s"]] * prompt[..., None, PROMPT_COLUMN["output_tokens"]]
    claim = np.minimum(claim / np.maximum(rows[..., _COLUMN["slots"]], 1.0), 4.0)
    block = out[..., _DIRECT:_RELATIVE]
    block[..., 0] = late
    block[..., 1:3] = relative
    block[..., 3] = share
    block[..., 4] = claim
    in_time = claim * (1.0 - late)
    block[..., 5] = in_time
    block[..., 6] = 3.0 * gained / total
    block[..., 7] = 3.0 * latency_weight / total * late
    block[..., 8] = 3.0 * cost_weight / total * np.minimum(cost * 1e3, 20.0)
    block[..., 9] = 3.0 * latency_weight / total * in_time
    block[..., 10:] = np.maximum(gaps, -4.0)
    return utility


def _write_request(prompt: Array, caller: Array, scale_s: Array, out: npt.NDArray[np.float32]) -> None:
    request = np.empty((*prompt.shape[:-1], len(FEATURES) - _RELATIVE))
    size = len(PROMPT_FEATURES)
    request[..., :size] = prompt
    logs = request[..., :3]  # prompt tokens, output tokens, turns
    np.log1p(logs, out=logs)
    request[..., :2] *= 0.125
    request[..., size : size + 3] = caller[..., :3] / (caller[..., :3].sum(axis=-1, keepdims=True) + _TINY)
    request[..., size + 3] = caller[..., 3] > 0.0
    request[..., size + 4] = np.log1p(scale_s[..., 0]) * 0.25
    out[..., _RELATIVE:] = request[..., None, :]
