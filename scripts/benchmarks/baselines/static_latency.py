"""Static latency prior: predicted quality against a fixed latency per model, blind to queues."""

from collections.abc import Mapping

import numpy as np

from policies.arrays import F64
from policies.baselines.greedy import GreedyPolicy
from policies.formula import utility
from policies.observation import Observation
from policies.utility import Weights


class StaticLatencyPolicy(GreedyPolicy):
    """The formula with each model's nominal TPOT times the predicted answer length for its latency.

    The ablation that RouteBalance (arXiv 2606.17949) found hard to beat at overload. `tpot_s` maps
    model -> seconds a token at low load, measured once; `weights` None takes the caller's.
    """

    name = "static_latency"

    def __init__(self, tpot_s: Mapping[str, float], weights: Weights | None = None) -> None:
        if not tpot_s or min(tpot_s.values()) <= 0.0:
            raise ValueError(f"tpot_s: {dict(tpot_s)}, must name at least one model, all above 0.")
        self.tpot_s = dict(tpot_s)
        self.weights = weights
        self._unknown_s = max(self.tpot_s.values())

    def scores(self, observation: Observation) -> F64:
        """[M] the formula; a model without a prior counts as the slowest known."""
        tpot_s = np.array([self.tpot_s.get(model, self._unknown_s) for model in observation.models])
        latency_s = tpot_s * max(observation.prompt_field("output_tokens"), 1.0)
        weights = self.weights or Weights(*observation.caller[:3].tolist())
        cost_usd = observation.column("cost_usd")
        return utility(observation.column("accuracy"), latency_s, cost_usd, weights, observation.mask)
