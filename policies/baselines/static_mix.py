"""Static best mix: fixed shares of traffic from a linear program, whatever the prompt or the load."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from policies.arrays import F64
from policies.baselines.greedy import candidates, uniform
from policies.observation import Observation
from policies.policy import Policy


@dataclass(frozen=True, slots=True)
class Mix:
    """`shares` [M] of all requests, `unserved` the share that no model has room for, `value` per request."""

    shares: F64
    unserved: float
    value: float
    cost_usd: float


def best_mix(
    value: F64,
    cost_usd: F64,
    *,
    budget_usd: float | None = None,
    capacity_per_s: F64 | None = None,
    demand_per_s: float = 0.0,
    weight: F64 | None = None,
) -> Mix:
    """Shares x that maximise sum_i w_i x_i value_i, the x of the definition max_x sum_i w_i f(x, p_i).

    Subject to sum x <= 1, mean cost sum x_i cost_i <= `budget_usd`, and `demand_per_s` x_i <=
    capacity_i. Serving comes first: a request served is worth more than any difference of values, so
    that something is left `unserved` only where capacity or budget leave no room. `value`, `cost_usd`,
    `capacity_per_s` and `weight` are [M], `cost_usd` per request.

    Raises ValueError for numbers that are not finite, shapes that differ or a negative cost.
    """
    m = len(value)
    w = np.ones(m) if weight is None else weight
    for name, column in (("value", value), ("cost_usd", cost_usd), ("weight", w)):
        if column.shape != (m,) or not np.isfinite(column).all():
            raise ValueError(f"{name}: {column.tolist()}, must be {m} finite numbers.")
    if m == 0 or cost_usd.min() < 0.0:
        raise ValueError("best_mix: needs at least one model, and no cost below 0.")
    worth = w * value
    served = float(np.ptp(worth)) + 1.0 - float(worth.min())
    most = np.where(w > 0.0, 1.0, 0.0)
    if capacity_per_s is not None and demand_per_s > 0.0:
        most = np.minimum(most, capacity_per_s / demand_per_s)
    limits, bounds = [np.ones(m)], [1.0]
    if budget_usd is not None:
        scale = max(float(cost_usd.max()), 1e-12)  # costs of 1e-6 USD are below the solver's tolerance
        limits.append(cost_usd / scale)
        bounds.append(budget_usd / scale)
    found = linprog(
        -(worth + served),
        A_ub=np.array(limits),
        b_ub=bounds,
        bounds=list(zip(np.zeros(m), most, strict=True)),
    )
    if not found.success:
        raise ValueError(f"best_mix: no solution, {found.message}")
    shares = np.maximum(found.x, 0.0)
    total = float(shares.sum())
    mean = max(total, 1e-12)
    return Mix(shares, max(0.0, 1.0 - total), float(shares @ value) / mean, float(shares @ cost_usd) / mean)


class StaticMixPolicy(Policy):
    """Each model by its share; what is masked leaves its share to the others in proportion."""

    name = "static_mix"

    def __init__(self, shares: Mapping[str, float]) -> None:
        if not shares or min(shares.values()) < 0.0 or sum(shares.values()) <= 0.0:
            raise ValueError(f"shares: {dict(shares)}, must be >= 0 with one above 0.")
        self.shares = dict(shares)

    def distribution(self, observation: Observation) -> F64:
        """[M] the shares over the plausible models."""
        mask = candidates(self, observation)
        shares = np.array([self.shares.get(model, 0.0) for model in observation.models]) * mask
        total = float(shares.sum())
        return shares / total if total > 0.0 else uniform(mask)
