"""kNN router: a model's quality is the mean over its k nearest prompts with a known score."""

import numpy as np

from policies.arrays import F64
from policies.baselines.greedy import GreedyPolicy
from policies.formula import utility
from policies.observation import Observation
from policies.outcome import Transition
from policies.utility import Weights
from scripts.benchmarks.baselines.context import prompt_vector


class KnnPolicy(GreedyPolicy):
    """The formula with the neighbours' mean for the accuracy; no network is trained.

    Distance is Euclidean in `prompt_vector`; per model the newest `memory` outcomes are kept. The mean
    is shrunk to the predicted accuracy by `prior_count` virtual neighbours.
    """

    name = "knn"

    def __init__(self, k: int = 50, memory: int = 2_000, prior_count: float = 5.0) -> None:
        if k < 1 or memory < k:
            raise ValueError(f"k: {k}, memory: {memory}; must be 1 <= k <= memory.")
        self.k, self.memory, self.prior_count = k, memory, prior_count
        self._prompts: dict[str, F64] = {}
        self._scores: dict[str, F64] = {}
        self._counts: dict[str, int] = {}

    def scores(self, observation: Observation) -> F64:
        """[M] the formula over the neighbours' accuracy and the predicted latency."""
        x = prompt_vector(observation)
        predicted = observation.column("accuracy").tolist()
        accuracy = [self._near(m, x, p) for m, p in zip(observation.models, predicted, strict=True)]
        weights = Weights(*observation.caller[:3].tolist())
        e2e_s, cost_usd = observation.column("e2e_s"), observation.column("cost_usd")
        return utility(np.array(accuracy), e2e_s, cost_usd, weights, observation.mask)

    def learn(self, transition: Transition) -> None:
        """Remember the prompt with its measured quality."""
        quality, model = transition.outcome.quality, transition.decision.model
        if quality is None:
            return
        x = prompt_vector(transition.observation)
        if model not in self._prompts:
            self._prompts[model] = np.empty((self.memory, len(x)))
            self._scores[model] = np.empty(self.memory)
        slot = self._counts.get(model, 0) % self.memory
        self._prompts[model][slot], self._scores[model][slot] = x, quality
        self._counts[model] = self._counts.get(model, 0) + 1

    def _near(self, model: str, x: F64, prior: float) -> float:
        count = min(self._counts.get(model, 0), self.memory)
        if not count:
            return prior
        distance = np.square(self._prompts[model][:count] - x).sum(axis=1)
        k = min(self.k, count)
        nearest = np.argpartition(distance, k - 1)[:k]
        total = float(self._scores[model][nearest].sum())
        return (total + self.prior_count * prior) / (k + self.prior_count)
