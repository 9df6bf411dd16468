"""The priced rule: what an answer is expected to earn, less a price for the capacity that it takes.

    A_i   = a1 * accuracy_i - a2 * E[lateness_i] - a3 * cost_i / dearest
            - work_i * min(load_i, 4) * (1 - E[lateness_i])
    U_i   = A_i - error_i * max(A_i + a2, 0)
    work  = tpot * predicted answer / slots      seconds of the model's capacity
    load  = in flight / slots                    of the model
    error = share of the model's recent requests that failed; such a request scores 0 and is late, -a2

Nothing of it is learned or tuned. An idle model has no price: there a request delays nobody. One that will be
late anyway pays less, so that it stands where requests are late already, and the other models stay free for
those that can still be in time.
"""

from typing import Final

import numpy as np

from policies import observation as column
from policies.arrays import F64, Bools
from policies.compiled import array, compiled, readonly, types
from policies.formula import weighted
from policies.observation import Observation
from policies.policy import RulePolicy
from policies.reward import expected_lateness
from policies.utility import MOST_LOAD

MOST_WORK_S: Final = 4.0
MOST_SHARE: Final = 4.0  # of the dearest allowed model's cost
_TINY: Final = 1e-9
_F64, _ROWS, _MASK = readonly(types.float64), readonly(types.float64, 2), readonly(types.boolean)


@compiled()
def work_s(row: F64, output_tokens: float) -> float:
    """Seconds of the model's capacity that an answer of `output_tokens` takes; `row` [F]."""
    return min(row[column.TPOT_S] * output_tokens / max(row[column.SLOTS], 1.0), MOST_WORK_S)


@compiled()
def load(row: F64) -> float:
    """Requests in flight for each slot of the model, at most MOST_LOAD; `row` [F]."""
    return min(row[column.IN_FLIGHT] / max(row[column.SLOTS], 1.0), MOST_LOAD)


@compiled()
def model_utility(row: F64, caller: F64, late: float, cost_share: float, output_tokens: float) -> float:
    """U of one model's row [F] for the caller's fields [C], at this expected lateness and share of cost."""
    price = work_s(row, output_tokens) * load(row) * (1.0 - late)  # what the requests behind this one lose
    answered = caller[column.ACCURACY_WEIGHT] * row[column.ACCURACY] - caller[column.LATENCY_WEIGHT] * late
    answered -= caller[column.COST_WEIGHT] * cost_share + price
    return answered - row[column.ERROR_RATE] * max(answered + caller[column.LATENCY_WEIGHT], 0.0)


@compiled(array(types.float64)(_ROWS, _MASK))
def cost_shares(rows: F64, mask: Bools) -> F64:
    """[M] predicted cost of each model over the dearest allowed, at most MOST_SHARE; rows [M, F]."""
    scale_usd = _TINY
    for m in range(len(rows)):
        if mask[m]:
            scale_usd = max(scale_usd, rows[m, column.COST_USD] + _TINY)
    shares = np.empty(len(rows))
    for m in range(len(rows)):
        shares[m] = min(rows[m, column.COST_USD] / scale_usd, MOST_SHARE)
    return shares


@compiled(array(types.float64)(_ROWS, _F64, _F64, _MASK))
def priced_utility(rows: F64, prompt: F64, caller: F64, mask: Bools) -> F64:
    """[M] U_i of rows [M, F], prompt [P] and caller [C]; entries outside `mask` [M] mean nothing."""
    shares, utility = cost_shares(rows, mask), np.zeros(len(rows))
    for m in range(len(rows)):
        row = rows[m]
        late = expected_lateness(row[column.TTFT_S], row[column.E2E_S], caller[column.TARGET_S])
        utility[m] = model_utility(row, caller, late, shares[m], prompt[column.OUTPUT_TOKENS])
    return utility


@compiled(array(types.float64)(_ROWS, _F64, _F64, _MASK, types.float64))
def priced_logits(rows: F64, prompt: F64, caller: F64, mask: Bools, beta: float) -> F64:
    """[M] beta * w_i * U_i; -inf where w_i is 0."""
    return weighted(priced_utility(rows, prompt, caller, mask), rows, beta)


class PricedPolicy(RulePolicy):
    """The priced rule as a policy: decides until something learned is better."""

    name = "priced"

    def logits(self, observation: Observation) -> F64:
        """[M] of the priced rule."""
        o = observation
        return priced_logits(o.rows, o.prompt, o.caller, o.mask, self.beta)
