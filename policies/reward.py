"""The reward of one finished request: accuracy, lateness against the target, cost."""

from typing import Final

from numba import njit

NO_TARGET_S: Final = 30.0  # a caller without a target loses the whole latency weight at this latency


@njit(cache=True)  # type: ignore[untyped-decorator]
def lateness(e2e_s: float, target_s: float) -> float:
    """Share of the latency weight that is lost, in [0, 1].

    With a target: seconds over the target / target, at most 1 (twice the target is lost).
    Without one: e2e / NO_TARGET_S, at most 1.
    """
    if target_s > 0.0:
        late = (e2e_s - target_s) / target_s
    else:
        late = e2e_s / NO_TARGET_S
    return min(max(late, 0.0), 1.0)


@njit(cache=True)  # type: ignore[untyped-decorator]
def reward(
    score: float,
    e2e_s: float,
    cost_share: float,
    accuracy_weight: float,
    latency_weight: float,
    cost_weight: float,
    target_s: float,
) -> float:
    """a1 * score - a2 * lateness - a3 * cost_share.

    `score` in [0, 1]; `cost_share` is the cost over the pool's cost scale (dimensionless). A failed,
    expired or rejected request has score 0 and an infinite `e2e_s`.
    """
    return accuracy_weight * score - latency_weight * lateness(e2e_s, target_s) - cost_weight * cost_share
