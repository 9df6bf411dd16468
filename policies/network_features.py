"""Observations as the network's input: unbounded quantities in logs, others relative to target or pool.

One function serves training (a batch of simulated requests) and serving (one request), so they cannot differ.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from policies.observation import CALLER_COLUMN, MODEL_COLUMN, PROMPT_COLUMN
from policies.reward import NO_TARGET_S

Array = npt.NDArray[np.floating]

OWN_FEATURES: Final = (
    "weight",  # w_i, at most 4
    "accuracy",
    "accuracy_std",
    "accuracy_gap",  # to the best allowed model, <= 0
    "ttft",  # log(1 + ttft / target)
    "e2e",  # log(1 + e2e / target)
    "lateness",  # share of the latency weight lost at the predicted e2e
    "service",  # log(1 + tpot * predicted output / target)
    "speed",  # fastest allowed e2e / own e2e
    "cheapness",  # cheapest allowed / own cost
    "cost_share",  # own cost / dearest allowed
    "cost",  # log(1 + cost / $0.001)
    "load",  # log(1 + in flight / slots)
    "queue",  # log(1 + waiting / slots)
    "slots",  # log(1 + slots) / 4
    "kv_use",
    "error_rate",
    "replicas",  # log(1 + replicas)
    "cold",
    "age",  # seconds, at most 5
    "tpot",  # log(tpot / 20 ms)
    "formula_gap",  # U_i / sum of the weights, to the best allowed, <= 0
    "reward_gap",  # predicted reward / sum of the weights, to the best allowed, <= 0
)
PROMPT_FEATURES: Final = (
    "prompt_tokens", "output_tokens", "turns", "cjk_share",
    "digit_share", "code_hint", "maths_hint", "structure_hint",
)  # fmt: skip
CALLER_FEATURES: Final = ("accuracy_weight", "latency_weight", "cost_weight", "has_target", "target")
FEATURES: Final = OWN_FEATURES + PROMPT_FEATURES + CALLER_FEATURES
_TINY: Final = 1e-9


def formula_utility(rows: Array, caller: Array, mask: npt.NDArray[np.bool_]) -> Array:
    """[..., M] U_i as utility.observed_utility; rows [..., M, F], caller [..., 4], mask [..., M]."""
    value = caller[..., None, 0] * rows[..., MODEL_COLUMN["accuracy"]]
    value = value + caller[..., None, 1] * _relative(rows[..., MODEL_COLUMN["e2e_s"]], mask)
    return value + caller[..., None, 2] * _relative(rows[..., MODEL_COLUMN["cost_usd"]], mask)


def network_features(
    rows: Array, prompt: Array, caller: Array, mask: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """[..., M, K], columns FEATURES; rows [..., M, F], prompt [..., P], caller [..., 4], mask [..., M]."""
    out = np.empty((*rows.shape[:-1], len(FEATURES)), dtype=np.float32)
    own = len(OWN_FEATURES)
    _own_features(rows, prompt, caller, mask, out)
    size = len(PROMPT_FEATURES)
    out[..., own : own + size] = prompt[..., None, :]
    logs = out[..., own : own + 3]
    np.log1p(logs, out=logs)
    out[..., own : own + 2] *= 0.125
    total = np.maximum(caller[..., 0] + caller[..., 1] + caller[..., 2], _TINY)[..., None]
    out[..., own + size : own + size + 3] = (caller[..., :3] / total)[..., None, :]
    target = caller[..., CALLER_COLUMN["target_s"]]
    out[..., own + size + 3] = (target > 0.0)[..., None]
    out[..., own + size + 4] = (np.log1p(_scale_s(target)) * 0.25)[..., None]
    return out


def _scale_s(target_s: Array) -> Array:
    return np.where(target_s > 0.0, target_s, NO_TARGET_S)


def _relative(amount: Array, mask: npt.NDArray[np.bool_]) -> Array:
    best = np.where(mask, amount, np.inf).min(axis=-1, keepdims=True)
    return np.minimum((best + _TINY) / (amount + _TINY), 1.0)


def _gap(value: Array, mask: npt.NDArray[np.bool_]) -> Array:
    best = np.where(mask, value, -np.inf).max(axis=-1, keepdims=True)
    return np.maximum(value - best, -4.0)


def _own_features(
    rows: Array, prompt: Array, caller: Array, mask: npt.NDArray[np.bool_], out: npt.NDArray[np.float32]
) -> None:
    column = {name: rows[..., i] for name, i in MODEL_COLUMN.items()}
    weights = caller[..., None, :3]
    total = np.maximum(weights.sum(axis=-1), _TINY)
    target = caller[..., None, CALLER_COLUMN["target_s"]]
    scale = _scale_s(target)
    slots = np.maximum(column["slots"], 1.0)
    accuracy, cost = column["accuracy"], column["cost_usd"]
    late = np.clip((column["e2e_s"] - target) / scale, 0.0, 1.0)
    speed, cheapness = _relative(column["e2e_s"], mask), _relative(cost, mask)
    dearest = np.where(mask, cost, 0.0).max(axis=-1, keepdims=True)
    share = np.minimum(cost / (dearest + _TINY), 4.0)
    utility = weights[..., 0] * accuracy + weights[..., 1] * speed + weights[..., 2] * cheapness
    expected = weights[..., 0] * accuracy - weights[..., 1] * late - weights[..., 2] * share
    output = prompt[..., None, PROMPT_COLUMN["output_tokens"]]
    values = (
        np.minimum(column["weight"], 4.0),
        accuracy,
        column["accuracy_std"],
        _gap(accuracy, mask),
        np.log1p(column["ttft_s"] / scale),
        np.log1p(column["e2e_s"] / scale),
        late,
        np.log1p(column["tpot_s"] * output / scale),
        speed,
        cheapness,
        share,
        np.log1p(cost * 1e3),
        np.log1p(column["in_flight"] / slots),
        np.log1p(column["waiting"] / slots),
        np.log1p(column["slots"]) * 0.25,
        column["kv_use"],
        column["error_rate"],
        np.log1p(column["replicas"]),
        column["cold"],
        np.minimum(column["age_s"], 5.0),
        np.log(np.maximum(column["tpot_s"], 1e-4) * 50.0),
        _gap(utility / total, mask),
        _gap(expected / total, mask),
    )
    for i, value in enumerate(values):
        out[..., i] = value
