"""The policy interface: observation -> probabilities over models. Safety and shape are checked here only."""

import math
from abc import ABC, abstractmethod

import numpy as np

from policies.decision import Decision, draw
from policies.observation import BoolArray, FloatArray, Observation
from policies.outcome import Transition


class PolicyError(RuntimeError):
    """A policy gave probabilities that cannot be sampled."""


class Policy(ABC):
    """Chooses a model. Subclasses give `distribution`; masking, exploration and sampling live here."""

    name: str = "policy"

    @abstractmethod
    def distribution(self, observation: Observation) -> FloatArray:
        """[M] probabilities without exploration; what stands outside the mask is ignored."""

    def plausible(self, observation: Observation) -> BoolArray:
        """[M] models that exploration may try: allowed, and weighted above 0."""
        plausible: BoolArray = observation.mask & (observation.column("weight") > 0)
        return plausible

    def learn(self, transition: Transition) -> None:  # noqa: B027 - most policies learn elsewhere
        """Take one outcome into account. Online baselines override it."""

    def probabilities(self, observation: Observation, epsilon: float = 0.0) -> FloatArray:
        """[M] pi = (1 - eps) * distribution + eps * uniform(plausible), 0 outside the mask.

        Raises PolicyError when the distribution has the wrong shape, is not finite, is negative or
        has no mass on an allowed model.
        """
        pi = np.where(observation.mask, self.distribution(observation), 0.0)
        total = float(np.add.reduce(pi)) if pi.shape == observation.mask.shape else math.nan
        if not (0.0 < total < math.inf and np.minimum.reduce(pi) >= 0.0):
            raise PolicyError(
                f"Policy '{self.name}' gave {pi.tolist()}: not a distribution over allowed models."
            )
        pi = pi / total
        if epsilon > 0.0:
            plausible = self.plausible(observation)
            count = int(np.count_nonzero(plausible))
            if count:
                pi = (1.0 - epsilon) * pi + (epsilon / count) * plausible
        return pi

    def decide(self, observation: Observation, seed: int, epsilon: float = 0.0) -> Decision:
        """Sample a model; the same observation, seed and epsilon always give the same decision."""
        pi = self.probabilities(observation, epsilon)
        index = draw(pi, seed)
        return Decision(
            index=index,
            model=observation.models[index],
            propensity=float(pi[index]),
            probabilities=pi,
            policy=self.name,
            epsilon=epsilon,
            seed=seed,
        )


def masked_softmax(logits: FloatArray, mask: BoolArray) -> FloatArray:
    """[M] softmax over the entries where `mask` is True, 0 elsewhere; all 0 where none is allowed."""
    shifted = np.where(mask, logits, -np.inf)
    top = float(np.maximum.reduce(shifted, initial=-math.inf))
    if not math.isfinite(top):
        return np.zeros_like(logits) if top == -math.inf else np.full_like(logits, np.nan)
    weights: FloatArray = np.exp(shifted - top)
    normalised: FloatArray = weights / np.add.reduce(weights)
    return normalised
