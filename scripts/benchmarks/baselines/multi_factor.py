"""The multi-factor score of vLLM Semantic Router: min-max normalised quality, latency, cost and load."""

from collections.abc import Mapping

import numpy as np

from policies.arrays import F64, Bools
from policies.baselines.greedy import GreedyPolicy, candidates
from policies.observation import Observation


class MultiFactorPolicy(GreedyPolicy):
    """score = wQ quality + wL (1 - latency) + wC (1 - cost) + wLoad (1 - in flight) over the candidates.

    As `pkg/selection/multi_factor.go` of vllm-project/semantic-router scores with its weighted objective:
    every signal is scaled to [0, 1] by the candidates' minimum and maximum (0.5 where they are equal), the
    weights are scaled to sum to 1, the latency is the measured TPOT, the quality a constant per model
    from the config (`quality`; without it the predicted accuracy, which is the stronger baseline).
    """

    name = "multi_factor"

    def __init__(
        self,
        quality: Mapping[str, float] | None = None,
        weights: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25),
    ) -> None:
        if min(weights) < 0.0 or sum(weights) <= 0.0:
            raise ValueError(f"weights: {weights}, must be >= 0 with one above 0.")
        self.quality = dict(quality) if quality is not None else None
        self.weights = tuple(weight / sum(weights) for weight in weights)

    def scores(self, observation: Observation) -> F64:
        """[M] weighted sums."""
        mask = candidates(self, observation)
        quality = observation.column("accuracy")
        if self.quality is not None:
            quality = np.array([self.quality.get(model, 0.0) for model in observation.models])
        w_quality, w_latency, w_cost, w_load = self.weights
        return (
            w_quality * _scaled(quality, mask)
            + w_latency * (1.0 - _scaled(observation.column("tpot_s"), mask))
            + w_cost * (1.0 - _scaled(observation.column("cost_usd"), mask))
            + w_load * (1.0 - _scaled(observation.column("in_flight"), mask))
        )


def _scaled(values: F64, mask: Bools) -> F64:
    """[M] (v - min) / (max - min) over `mask`; 0.5 where all are equal."""
    inside = values[mask]
    if not inside.size or inside.max() <= inside.min():
        return np.full(len(values), 0.5)
    return (values - inside.min()) / (inside.max() - inside.min())
