"""Completes the rows of an observation with what is predicted for one request, compiled."""

import numpy as np

from policies import observation as column
from policies.arrays import F64
from policies.compiled import array, compiled, readonly, types
from policies.cost import cost_usd

_cost_usd = compiled(fused=False)(cost_usd)
_F64, _ROWS = readonly(types.float64), array(types.float64, 2)


@compiled(types.void(_ROWS, array(types.float64), _F64, _F64, _F64, _F64, _F64, _F64, types.float64))
def fill_rows(
    rows: F64, prompt: F64, in_flight: F64, ttft_s: F64, e2e_s: F64, output_tokens: F64,
    prompt_usd_per_mtok: F64, completion_usd_per_mtok: F64, age_s: float,
) -> None:  # fmt: skip
    """Complete rows [M, F]; `prompt` [P] gets the mean of the predicted lengths."""
    total_tokens = 0.0
    for m in range(len(rows)):
        rows[m, column.IN_FLIGHT] = in_flight[m]
        rows[m, column.TTFT_S] = ttft_s[m]
        rows[m, column.E2E_S] = e2e_s[m]
        rows[m, column.COST_USD] = _cost_usd(
            prompt[column.PROMPT_TOKENS], output_tokens[m], prompt_usd_per_mtok[m], completion_usd_per_mtok[m]
        )
        rows[m, column.AGE_S] = age_s
        total_tokens += output_tokens[m]
    if len(rows):
        prompt[column.OUTPUT_TOKENS] = total_tokens / len(rows)


@compiled(types.void(_ROWS, _F64, _F64))
def fill_accuracy(rows: F64, mean: F64, std: F64) -> None:
    """Write predicted scores and their errors into rows [M, F], where there are any (not NaN)."""
    for m in range(len(rows)):
        if np.isfinite(mean[m]):
            rows[m, column.ACCURACY] = mean[m]
            rows[m, column.ACCURACY_STD] = std[m]
