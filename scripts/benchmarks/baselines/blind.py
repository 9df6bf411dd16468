"""Baselines that look at nothing: random and round robin."""

import numpy as np

from policies.arrays import F64
from policies.baselines.greedy import candidates, uniform
from policies.observation import Observation
from policies.policy import Policy


class RandomPolicy(Policy):
    """Uniform over the plausible models."""

    name = "random"

    def distribution(self, observation: Observation) -> F64:
        """[M] equal shares."""
        return uniform(candidates(self, observation))


class RoundRobinPolicy(Policy):
    """The plausible models in turn, one step a call."""

    name = "round_robin"

    def __init__(self) -> None:
        self._turn = -1

    def distribution(self, observation: Observation) -> F64:
        """[M] 1 on the model whose turn it is."""
        chosen = np.zeros(len(observation.models))
        order = np.flatnonzero(candidates(self, observation))
        if len(order):
            self._turn += 1
            chosen[order[self._turn % len(order)]] = 1.0
        return chosen
