"""Thompson sampling per (kind of prompt, model), as LiteLLM's adaptive router does it."""

from collections.abc import Callable

import numpy as np

from policies.arrays import F64
from policies.baselines.greedy import candidates
from policies.observation import Observation
from policies.outcome import Transition
from policies.policy import Policy
from scripts.benchmarks.baselines.context import prompt_kind


class ThompsonPolicy(Policy):
    """Beta posteriors over quality; a model's probability is its chance of having the best draw.

    The chance is estimated from `draws` samples, so that it can be logged as a propensity. Latency is
    not in the score. The prior has the predicted accuracy as its mean and the weight of
    `prior_count` outcomes; a pair's evidence is scaled down beyond `most` outcomes, so that it never
    stops learning.
    """

    name = "thompson"

    def __init__(
        self,
        draws: int = 200,
        prior_count: float = 2.0,
        most: float = 500.0,
        seed: int = 0,
        label: Callable[[Observation], str] = prompt_kind,
    ) -> None:
        self.draws, self.prior_count, self.most = draws, prior_count, most
        self._label = label
        self._random = np.random.default_rng(seed)
        self._evidence: dict[tuple[str, str], tuple[float, float]] = {}

    def distribution(self, observation: Observation) -> F64:
        """[M] share of draws in which each model is the best."""
        label, mask = self._label(observation), candidates(self, observation)
        if not mask.any():
            return np.zeros(len(observation.models))
        prior = np.clip(observation.column("accuracy"), 0.01, 0.99)
        evidence = np.array([self._evidence.get((label, m), (0.0, 0.0)) for m in observation.models])
        good = evidence[:, 0] + self.prior_count * prior
        bad = evidence[:, 1] + self.prior_count * (1.0 - prior)
        samples = np.where(mask, self._random.beta(good, bad, size=(self.draws, len(mask))), -1.0)
        return np.bincount(samples.argmax(axis=1), minlength=len(mask)) / self.draws

    def learn(self, transition: Transition) -> None:
        """Add the measured quality in [0, 1], where there is one."""
        quality = transition.outcome.quality
        if quality is None:
            return
        key = (self._label(transition.observation), transition.decision.model)
        good, bad = self._evidence.get(key, (0.0, 0.0))
        good, bad = good + quality, bad + 1.0 - quality
        scale = min(1.0, self.most / (good + bad))
        self._evidence[key] = (good * scale, bad * scale)
