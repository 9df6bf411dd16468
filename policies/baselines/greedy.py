"""The common part of baselines that give every model a score and take the best."""

from abc import abstractmethod

import numpy as np

from policies.arrays import F64, Bools
from policies.observation import Observation
from policies.policy import Policy


class GreedyPolicy(Policy):
    """All probability on the plausible model with the best score, shared equally by ties."""

    @abstractmethod
    def scores(self, observation: Observation) -> F64:
        """[M] higher is better; entries outside the mask mean nothing."""

    def distribution(self, observation: Observation) -> F64:
        """[M] 1 on the best, or equal shares of several equally good ones."""
        return best_of(self.scores(observation), candidates(self, observation))


def candidates(policy: Policy, observation: Observation) -> Bools:
    """[M] plausible models, or all allowed ones where none is plausible."""
    plausible = policy.plausible(observation)
    return plausible if plausible.any() else observation.mask


def best_of(scores: F64, mask: Bools) -> F64:
    """[M] equal shares of the largest score within `mask`; all 0 where the mask is empty."""
    if not mask.any():
        return np.zeros_like(scores)
    best = mask & (scores >= scores[mask].max())
    return best / best.sum()


def uniform(mask: Bools) -> F64:
    """[M] equal shares within `mask`; all 0 where it is empty."""
    return mask / max(int(mask.sum()), 1)
