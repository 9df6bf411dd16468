"""LinUCB with disjoint models (Li et al. 2010), optionally forgetting (as ParetoBandit, arXiv 2604.00136)."""

from dataclasses import dataclass

import numpy as np

from policies.arrays import F64
from policies.baselines.greedy import GreedyPolicy
from policies.observation import Observation
from policies.outcome import Transition
from scripts.benchmarks.baselines.context import CONTEXT_SIZE, context


@dataclass(slots=True)
class _Arm:
    """Ridge regression of one model's reward: inverse [D, D] of the design, response [D]."""

    inverse: F64
    response: F64


class LinUcbPolicy(GreedyPolicy):
    """The model with the best upper confidence bound x theta + alpha sqrt(x A^-1 x) on its reward."""

    name = "lin_ucb"

    def __init__(self, alpha: float = 0.3, ridge: float = 1.0, forgetting: float = 1.0) -> None:
        if alpha < 0.0 or ridge <= 0.0 or not 0.0 < forgetting <= 1.0:
            raise ValueError(f"alpha: {alpha}, ridge: {ridge}, forgetting: {forgetting}: out of range.")
        self.alpha, self.ridge, self.forgetting = alpha, ridge, forgetting
        self._arms: dict[str, _Arm] = {}

    def scores(self, observation: Observation) -> F64:
        """[M] upper confidence bounds."""
        bounds = []
        for model, x in zip(observation.models, context(observation), strict=True):
            arm = self._arm(model)
            spread = arm.inverse @ x
            bounds.append(float(spread @ arm.response) + self.alpha * float(np.sqrt(max(spread @ x, 0.0))))
        return np.array(bounds)

    def learn(self, transition: Transition) -> None:
        """Rank-one update of the chosen model (Sherman and Morrison)."""
        arm = self._arm(transition.decision.model)
        x = context(transition.observation)[transition.decision.index]
        if self.forgetting < 1.0:
            arm.response *= self.forgetting
            arm.inverse /= self.forgetting
            scale = float(np.trace(arm.inverse)) * self.ridge / CONTEXT_SIZE
            if scale > 1.0:  # what is forgotten altogether is the prior again
                arm.inverse /= scale
        spread = arm.inverse @ x
        arm.inverse -= np.outer(spread, spread) / (1.0 + float(spread @ x))
        arm.response += transition.reward * x

    def _arm(self, model: str) -> _Arm:
        arm = self._arms.get(model)
        if arm is None:
            arm = self._arms[model] = _Arm(np.eye(CONTEXT_SIZE) / self.ridge, np.zeros(CONTEXT_SIZE))
        return arm
