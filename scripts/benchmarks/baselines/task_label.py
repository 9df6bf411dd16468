"""Task label router: the model with the best mean score on the prompt's kind."""

from collections.abc import Callable, Mapping

import numpy as np

from policies.arrays import F64
from policies.baselines.greedy import GreedyPolicy
from policies.observation import Observation
from policies.outcome import Transition
from scripts.benchmarks.baselines.context import prompt_kind


class TaskLabelPolicy(GreedyPolicy):
    """Mean scores by (label, model), started from `scores` and kept current from outcomes with a quality.

    A pair never seen has the model's predicted accuracy. `label` tells an observation's task; where the
    task is known from outside, give a function that knows it.
    """

    name = "task_label"

    def __init__(
        self,
        scores: Mapping[str, Mapping[str, float]] | None = None,
        label: Callable[[Observation], str] = prompt_kind,
        prior_count: float = 20.0,
    ) -> None:
        self._label = label
        self._sums: dict[tuple[str, str], tuple[float, float]] = {}
        for task, by_model in (scores or {}).items():
            for model, mean in by_model.items():
                self._sums[task, model] = (mean * prior_count, prior_count)

    def scores(self, observation: Observation) -> F64:
        """[M] mean score of this kind of prompt."""
        label, predicted = self._label(observation), observation.column("accuracy").tolist()
        means = []
        for model, prior in zip(observation.models, predicted, strict=True):
            total, count = self._sums.get((label, model), (prior, 1.0))
            means.append(total / count)
        return np.array(means)

    def learn(self, transition: Transition) -> None:
        """Add the measured quality, where there is one."""
        quality = transition.outcome.quality
        if quality is None:
            return
        key = (self._label(transition.observation), transition.decision.model)
        total, count = self._sums.get(key, (0.0, 0.0))
        self._sums[key] = (total + quality, count + 1.0)
