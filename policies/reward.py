"""The reward of one finished request: accuracy, lateness against the target, cost."""

from typing import Final

from policies.compiled import compiled, types

ANSWER_SPREAD: Final = (0.45, 0.85, 1.6)  # real over predicted answer length: thirds of a log-normal
NO_TARGET_S: Final = 30.0  # a caller without a target loses the whole latency weight at this latency

_F64 = types.float64


@compiled(_F64(_F64, _F64), fused=False)
def lateness(e2e_s: float, target_s: float) -> float:
    """Share of the latency weight that is lost, in [0, 1].

    With a target: seconds over the target / target, at most 1 (twice the target loses all).
    Without one: e2e / NO_TARGET_S, at most 1.
    """
    late = (e2e_s - target_s) / target_s if target_s > 0.0 else e2e_s / NO_TARGET_S
    return min(max(late, 0.0), 1.0)


@compiled()
def expected_lateness(ttft_s: float, e2e_s: float, target_s: float) -> float:
    """Share of the latency weight that is lost, mean over how long the answer may turn out."""
    total = 0.0
    for spread in ANSWER_SPREAD:
        total += lateness(ttft_s + (e2e_s - ttft_s) * spread, target_s)
    return total / len(ANSWER_SPREAD)


@compiled(_F64(_F64, _F64, _F64, _F64, _F64, _F64), fused=False)
def reward(
    score: float,
    late: float,
    cost_share: float,
    accuracy_weight: float,
    latency_weight: float,
    cost_weight: float,
) -> float:
    """a1 * score - a2 * late - a3 * cost_share.

    `score` in [0, 1], `late` in [0, 1] from `lateness`; `cost_share` is the cost over the pool's cost
    scale (dimensionless). A failed, expired or rejected request has score 0, late 1 and cost 0.
    """
    return accuracy_weight * score - latency_weight * late - cost_weight * cost_share
