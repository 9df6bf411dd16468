"""Baselines without learning or prediction: random, round robin, best single, least loaded."""

from collections.abc import Mapping

import numpy as np

from policies.baselines.greedy import GreedyPolicy, candidates, uniform
from policies.observation import FloatArray, Observation
from policies.policy import Policy


class RandomPolicy(Policy):
    """Uniform over the plausible models."""

    name = "random"

    def distribution(self, observation: Observation) -> FloatArray:
        """[M] equal shares."""
        return uniform(candidates(self, observation))


class RoundRobinPolicy(Policy):
    """The plausible models in turn, one step a call."""

    name = "round_robin"

    def __init__(self) -> None:
        self._turn = -1

    def distribution(self, observation: Observation) -> FloatArray:
        """[M] 1 on the model whose turn it is."""
        chosen = np.zeros(len(observation.models))
        order = np.flatnonzero(candidates(self, observation))
        if len(order):
            self._turn += 1
            chosen[order[self._turn % len(order)]] = 1.0
        return chosen


class BestSinglePolicy(GreedyPolicy):
    """Always the model that is best on average; the next best where it is masked.

    `value` maps model -> mean utility on the data used for tuning; unknown models come last.
    """

    name = "best_single"

    def __init__(self, value: Mapping[str, float]) -> None:
        self.value = dict(value)

    def scores(self, observation: Observation) -> FloatArray:
        """[M] the fixed values."""
        return np.array([self.value.get(model, -np.inf) for model in observation.models])


class LeastLoadedPolicy(GreedyPolicy):
    """The model with the fewest requests in flight per slot."""

    name = "least_loaded"

    def scores(self, observation: Observation) -> FloatArray:
        """[M] minus the load."""
        return -load(observation)


def load(observation: Observation) -> FloatArray:
    """[M] requests in flight per slot of the ready replicas."""
    return observation.column("in_flight") / np.maximum(observation.column("slots"), 1.0)
