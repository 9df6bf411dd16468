"""What one request adds to a snapshot's rows, compiled: load, predicted latency and cost, age."""

import numpy as np
import numpy.typing as npt
from numba import types

from policies.compiled import array, compiled, readonly

# Columns of an observation, as policies.observation has them; a test holds both equal.
_ACCURACY, _STD, _TTFT, _E2E, _COST, _IN_FLIGHT, _AGE = 1, 2, 3, 4, 6, 7, 14
_PROMPT_TOKENS, _OUTPUT_TOKENS = 0, 1

F64 = npt.NDArray[np.float64]

_F64, _ROWS = readonly(types.float64), array(types.float64, 2)


@compiled(types.void(_ROWS, array(types.float64), _F64, _F64, _F64, _F64, _F64, _F64, types.float64))
def fill_rows(
    rows: F64, prompt: F64, in_flight: F64, ttft_s: F64, e2e_s: F64, output_tokens: F64, prompt_usd: F64,
    completion_usd: F64, age_s: float,
) -> None:  # fmt: skip
    """Complete rows [M, F]; prices are per token; `prompt` [P] gets the mean of the predicted lengths."""
    total_tokens = 0.0
    for m in range(len(rows)):
        rows[m, _IN_FLIGHT] = in_flight[m]
        rows[m, _TTFT] = ttft_s[m]
        rows[m, _E2E] = e2e_s[m]
        rows[m, _COST] = prompt[_PROMPT_TOKENS] * prompt_usd[m] + output_tokens[m] * completion_usd[m]
        rows[m, _AGE] = age_s
        total_tokens += output_tokens[m]
    if len(rows):
        prompt[_OUTPUT_TOKENS] = total_tokens / len(rows)


@compiled(types.void(_ROWS, _F64, _F64))
def fill_accuracy(rows: F64, mean: F64, std: F64) -> None:
    """Write predicted scores and their errors into rows [M, F], where there are any (not NaN)."""
    for m in range(len(rows)):
        if np.isfinite(mean[m]):
            rows[m, _ACCURACY] = mean[m]
            rows[m, _STD] = std[m]
