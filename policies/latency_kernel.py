"""Predicted latency and length of one request at every model, compiled, see policies.latency.model."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import types

from policies.compiled import array, compiled, readonly

LENGTH_INPUTS: Final = 8 + 53  # of the prompt, and its style
MOST_LOG_TOKENS: Final = 12.0
BOUND: Final = (
    "length",  # its rows are the coefficients of the answer's length
    "base_s",
    "prefill_s",
    "wait_s",
    "slots",
    "replicas",
    "busy",
    "alone_s",
    "each_s",
)
_BASE, _PREFILL, _WAIT, _SLOTS, _REPLICAS, _BUSY, _ALONE, _EACH = range(LENGTH_INPUTS, LENGTH_INPUTS + 8)
_TOKENS, _TURNS, _FIRST_SHARE, _FIELDS = 0, 2, 3, 8  # of the prompt, as policies.observation has them
_STYLE: Final = 3 + _FIELDS - _FIRST_SHARE  # where the style begins among the inputs

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
_F64, _F64_2 = readonly(types.float64), readonly(types.float64, 2)
_STYLE_FIELDS: Final = readonly(types.float32)


@compiled(types.void(_F64, _STYLE_FIELDS, array(types.float64)))
def write_length_inputs(prompt: F64, style: F32, inputs: F64) -> None:
    """What the answer's length is regressed on: 1, logs of lengths, shares and hints from `prompt` [P], then
    `style` [S], how it is written."""
    inputs[0] = 1.0
    inputs[1] = math.log1p(prompt[_TOKENS])
    inputs[2] = math.log1p(prompt[_TURNS])
    inputs[3:_STYLE] = prompt[_FIRST_SHARE:_FIELDS]
    inputs[_STYLE:] = style


@compiled(types.void(_F64_2, _F64, _STYLE_FIELDS, _F64, types.float64, array(types.float64, 2)))
def predict_latency(
    bound: F64, prompt: F64, style: F32, in_flight: F64, most_tokens: float, out: F64
) -> None:
    """Write [3, M]: TTFT, end-to-end latency, output tokens, as BoundLatency.predict gives them.

    `bound` [69, M] holds one row for each part of BOUND; `most_tokens` caps the answer.
    """
    inputs = np.empty(LENGTH_INPUTS)
    write_length_inputs(prompt, style, inputs)
    lengths = np.zeros(len(in_flight))
    for i in range(LENGTH_INPUTS):
        for m in range(len(in_flight)):
            lengths[m] += bound[i, m] * inputs[i]
    for m in range(len(in_flight)):
        tokens = max(math.expm1(min(lengths[m], MOST_LOG_TOKENS)), 1.0)
        tokens = min(tokens, most_tokens)
        there = max(in_flight[m], bound[_BUSY, m]) + 1.0
        ttft_s = bound[_BASE, m] + bound[_PREFILL, m] * prompt[_TOKENS]
        ttft_s += bound[_WAIT, m] * max(there, bound[_SLOTS, m])
        running = max(min(there, bound[_SLOTS, m]), bound[_REPLICAS, m])
        out[0, m] = ttft_s
        out[1, m] = ttft_s + (bound[_ALONE, m] + bound[_EACH, m] * running) * (tokens - 1.0)
        out[2, m] = tokens
