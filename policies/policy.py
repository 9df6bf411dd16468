"""The policy interface: observation -> probabilities over models. Safety and shape are checked here only."""

from abc import ABC, abstractmethod

import numpy as np

from policies.arrays import F64, Bools
from policies.decider import Decider
from policies.decision import Decision, draw
from policies.formula import explored, formula_logits, masked_softmax
from policies.observation import Observation
from policies.outcome import Transition
from policies.utility import DEFAULT_BETA


class PolicyError(RuntimeError):
    """A policy gave probabilities that cannot be sampled."""


class Policy(ABC):
    """Chooses a model. Subclasses give `distribution`; masking, exploration and sampling live here."""

    name: str = "policy"

    @abstractmethod
    def distribution(self, observation: Observation) -> F64:
        """[M] probabilities without exploration; what stands outside the mask is ignored."""

    def plausible(self, observation: Observation) -> Bools:
        """[M] models that exploration may try: allowed, and weighted above 0."""
        plausible: Bools = observation.mask & (observation.column("weight") > 0)
        return plausible

    def learn(self, transition: Transition) -> None:  # noqa: B027 - most policies learn elsewhere
        """Take one outcome into account. Online baselines override it."""

    def probabilities(self, observation: Observation, epsilon: float = 0.0) -> F64:
        """[M] pi = (1 - eps) * distribution + eps * uniform(plausible), 0 outside the mask.

        Raises PolicyError when the distribution has the wrong shape, is not finite, is negative or
        has no mass on an allowed model.
        """
        given, mask = np.ascontiguousarray(self.distribution(observation), dtype=np.float64), observation.mask
        pi = np.empty(len(mask))
        if given.shape != mask.shape or not explored(given, observation.rows, mask, epsilon, pi):
            raise PolicyError(
                f"Policy '{self.name}' gave {given.tolist()}: not a distribution over allowed models."
            )
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
            decider=Decider(self.name),
            epsilon=epsilon,
            seed=seed,
        )


class RulePolicy(Policy):
    """pi = softmax(beta * w_i * U_i) over the allowed models; w_i = 0 takes a model out."""

    def __init__(self, beta: float = DEFAULT_BETA) -> None:
        if not beta > 0.0:
            raise ValueError(f"beta: {beta}, must be above 0.")
        self.beta = beta

    @abstractmethod
    def logits(self, observation: Observation) -> F64:
        """[M] beta * w_i * U_i; -inf where w_i is 0."""

    def distribution(self, observation: Observation) -> F64:
        """[M] softmax of the logits over plausible models."""
        return masked_softmax(self.logits(observation), observation.mask)


class FormulaPolicy(RulePolicy):
    """The formula as a policy."""

    name = "formula"

    def logits(self, observation: Observation) -> F64:
        """[M] of the formula."""
        return formula_logits(observation.rows, observation.caller, observation.mask, self.beta)
