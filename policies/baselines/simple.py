"""Baselines without learning: best single model, least loaded model."""

from collections.abc import Mapping

import numpy as np

from policies.arrays import F64
from policies.baselines.greedy import GreedyPolicy
from policies.observation import Observation


class BestSinglePolicy(GreedyPolicy):
    """Always the model that is best on average; the next best where it is masked.

    `value` maps model -> mean utility on the data used for tuning; unknown models come last.
    """

    name = "best_single"

    def __init__(self, value: Mapping[str, float]) -> None:
        self.value = dict(value)

    def scores(self, observation: Observation) -> F64:
        """[M] the fixed values."""
        return np.array([self.value.get(model, -np.inf) for model in observation.models])


class LeastLoadedPolicy(GreedyPolicy):
    """The model with the fewest requests in flight per slot."""

    name = "least_loaded"

    def scores(self, observation: Observation) -> F64:
        """[M] minus the load."""
        return -load(observation)


def load(observation: Observation) -> F64:
    """[M] requests in flight per slot of the ready replicas."""
    return observation.column("in_flight") / np.maximum(observation.column("slots"), 1.0)
