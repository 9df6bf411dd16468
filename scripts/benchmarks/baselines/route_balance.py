"""RouteBalance's score (arXiv 2606.17949): predicted quality, end-to-end latency, cost and KV balance."""

import numpy as np

from policies.arrays import F64, Bools
from policies.baselines.greedy import GreedyPolicy, candidates
from policies.observation import Observation


class RouteBalancePolicy(GreedyPolicy):
    """score = wQ q + wC (1 - c / max c) + wL (1 - l / max l) + wB (1 - u / max u) over the candidates.

    q is the predicted quality in [0, 1], c the predicted cost, l the predicted end-to-end latency at this
    load, u the share of the KV cache in use; ties go to the shorter queue. The default weights are those
    of the authors' code. It chooses between replicas; here each model stands for its replicas, and our
    predictors stand in for its kNN and XGBoost.
    """

    name = "route_balance"

    def __init__(self, weights: tuple[float, float, float, float] = (0.3, 0.2, 0.3, 0.2)) -> None:
        if min(weights) < 0.0 or sum(weights) <= 0.0:
            raise ValueError(f"weights: {weights}, must be >= 0 with one above 0.")
        self.weights = weights

    def scores(self, observation: Observation) -> F64:
        """[M] weighted sums, less a trace of the queue to break ties."""
        mask = candidates(self, observation)
        w_quality, w_cost, w_latency, w_balance = self.weights
        queue = observation.column("in_flight") + observation.column("waiting")
        return (
            w_quality * observation.column("accuracy")
            + w_cost * _below_most(observation.column("cost_usd"), mask)
            + w_latency * _below_most(observation.column("e2e_s"), mask)
            + w_balance * _below_most(observation.column("kv_use"), mask)
            - 1e-9 * queue
        )


def _below_most(values: F64, mask: Bools) -> F64:
    """[M] 1 - v / max v over `mask`; 1 everywhere where the largest is 0."""
    most = float(values[mask].max()) if mask.any() else 0.0
    return 1.0 - np.minimum(values, most) / most if most > 0.0 else np.ones_like(values)
