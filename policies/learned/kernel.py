"""The learned policy's logits for one request, compiled: the twin of policies.training.network's
ModelSetNetwork.

Shapes: M models, K features, H hidden units. Layers hold their bias in the last row.
"""

import math
from typing import Final

import numpy as np

from policies import observation as column
from policies.arrays import F32, F64, Bools
from policies.compiled import array, compiled, readonly, types

_NOTHING: Final = np.float32(0.0)


_F32_2, _F64 = readonly(types.float32, 2), readonly(types.float64)
_MASK = readonly(types.boolean)


@compiled()
def _dense(x: F32, layer: F32, out: F32) -> None:
    """Write x [I] times the layer [I + 1, O]."""
    inputs = len(layer) - 1
    for j in range(len(out)):
        out[j] = layer[inputs, j]
    for i in range(inputs):
        value = x[i]
        for j in range(len(out)):
            out[j] += value * layer[i, j]


@compiled()
def _context(hidden: F32, mask: Bools, layer: F32) -> F32:
    """[H] what the allowed models say together: mean and maximum of `hidden` [M, H], times `layer`."""
    units, present = hidden.shape[1], max(int(np.count_nonzero(mask)), 1)
    pooled = np.zeros(2 * units, dtype=np.float32)
    for m in range(len(mask)):
        if mask[m]:
            for j in range(units):
                pooled[j] += hidden[m, j] / np.float32(present)
                pooled[units + j] = max(pooled[units + j], hidden[m, j])
    context = np.zeros(units, dtype=np.float32)
    for i in range(2 * units):
        value = pooled[i]
        for j in range(units):
            context[j] += value * layer[i, j]
    return context


def residual_of_arrays(x: F32, mask: Bools, encode: F32, own: F32, context: F32, score: F32) -> F32:
    """The same as `residual` in operations of numpy: without a compiler its loops take milliseconds."""
    units = own.shape[1]
    hidden = np.maximum(x @ encode[:-1] + encode[-1], _NOTHING)
    allowed = hidden[mask]
    mean = allowed.sum(axis=0) / np.float32(max(len(allowed), 1))
    pool = np.concatenate([mean, allowed.max(axis=0, initial=_NOTHING)]) @ context
    mixed = np.maximum(hidden @ own[:-1] + own[-1] + pool, _NOTHING)
    g: F32 = mixed @ score[0, :units] + x @ score[0, units:-1] + score[0, -1]
    return g


@compiled(array(types.float32)(_F32_2, _MASK, _F32_2, _F32_2, _F32_2, _F32_2), instead=residual_of_arrays)
def residual(x: F32, mask: Bools, encode: F32, own: F32, context: F32, score: F32) -> F32:
    """[M] g of the features [M, K] and the mask.

    `encode` [K + 1, H], `own` [H + 1, H], `context` [2 H, H]; `score` [1, H + K + 1]: of the hidden units,
    of the features and the bias.
    """
    models, units = len(x), own.shape[1]
    hidden = np.empty((models, units), dtype=np.float32)
    for m in range(models):
        _dense(x[m], encode, hidden[m])
        for j in range(units):
            hidden[m, j] = max(hidden[m, j], _NOTHING)
    pool = _context(hidden, mask, context)
    mixed = np.empty(units, dtype=np.float32)
    g = np.empty(models, dtype=np.float32)
    for m in range(models):
        _dense(hidden[m], own, mixed)
        total = score[0, -1]
        for j in range(units):
            total += max(mixed[j] + pool[j], _NOTHING) * score[0, j]
        for i in range(x.shape[1]):
            total += x[m, i] * score[0, units + i]
        g[m] = total
    return g


@compiled(
    array(types.float64)(
        _F32_2, _F64, readonly(types.float64, 2), _MASK, types.float64, _F32_2, _F32_2, _F32_2, _F32_2
    )
)
def learned_logits(
    x: F32, utility: F64, rows: F64, mask: Bools, beta: float, encode: F32, own: F32, context: F32, score: F32
) -> F64:
    """[M] beta * w_i * U_i + g_i of the features [M, K] and U [M] of one request; -inf where w_i is 0."""
    g = residual(x, mask, encode, own, context, score)
    logits = np.empty(len(rows))
    for m in range(len(rows)):
        weight = rows[m, column.WEIGHT]
        logits[m] = beta * weight * utility[m] + g[m] if weight > 0.0 else -math.inf
    return logits
