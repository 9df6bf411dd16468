"""Static best mix: fixed shares from the linear program of policies.mix, whatever the prompt or the load."""

from collections.abc import Mapping

import numpy as np

from policies.baselines.greedy import candidates, uniform
from policies.observation import FloatArray, Observation
from policies.policy import Policy


class StaticMixPolicy(Policy):
    """Each model by its share; what is masked leaves its share to the others in proportion."""

    name = "static_mix"

    def __init__(self, shares: Mapping[str, float]) -> None:
        if not shares or min(shares.values()) < 0.0 or sum(shares.values()) <= 0.0:
            raise ValueError(f"shares: {dict(shares)}, must be >= 0 with one above 0.")
        self.shares = dict(shares)

    def distribution(self, observation: Observation) -> FloatArray:
        """[M] the shares over the plausible models."""
        mask = candidates(self, observation)
        shares = np.array([self.shares.get(model, 0.0) for model in observation.models]) * mask
        total = float(shares.sum())
        return shares / total if total > 0.0 else uniform(mask)
