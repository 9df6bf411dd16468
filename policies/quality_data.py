"""What the quality model is fitted from: scored answers, grouped by prompt, with weights and ages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from policies.features import PromptFeatures
from policies.observation import FloatArray

MAX_FEEDBACK_WEIGHT = 10.0  # 1 / propensity is cut here: unbiasedness traded for variance


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One model's score in [0, 1] for one prompt.

    `weight` is 1 for an evaluation, `feedback_weight(propensity)` for feedback on a dispatched
    request; `created_s` wall clock, old answers count less. Answers to the same prompt share
    `prompt_id`, which is how paired evidence is recognised.
    """

    prompt_id: str
    features: PromptFeatures
    model: str
    score: float
    weight: float = 1.0
    created_s: float = 0.0


def feedback_weight(propensity: float) -> float:
    """1 / propensity, at most MAX_FEEDBACK_WEIGHT. Raises ValueError outside (0, 1]."""
    if not 0.0 < propensity <= 1.0:
        raise ValueError(f"propensity: {propensity}, must be in (0, 1].")
    return min(1.0 / propensity, MAX_FEEDBACK_WEIGHT)


@dataclass(frozen=True, slots=True)
class QualityData:
    """Scores of N prompts by M models: `scores` [N, M] in [0, 1], NaN where unknown, `weights` [N, M]
    >= 0 and 0 where unknown, `created_s` [N]."""

    features: tuple[PromptFeatures, ...]
    models: tuple[str, ...]
    scores: FloatArray
    weights: FloatArray
    created_s: FloatArray

    @staticmethod
    def from_answers(answers: Iterable[ScoredAnswer]) -> "QualityData":
        """Group answers by prompt; a model's last answer to a prompt replaces earlier ones."""
        answers = list(answers)
        models = tuple(sorted({answer.model for answer in answers}))
        column = {model: i for i, model in enumerate(models)}
        row = {prompt: i for i, prompt in enumerate(dict.fromkeys(answer.prompt_id for answer in answers))}
        features: dict[str, PromptFeatures] = {}
        shape = (len(row), len(models))
        scores, weights, created_s = np.full(shape, np.nan), np.zeros(shape), np.zeros(len(row))
        for answer in sorted(answers, key=lambda answer: answer.created_s):
            if not 0.0 <= answer.score <= 1.0:
                raise ValueError(f"score of '{answer.model}': {answer.score}, must be in [0, 1].")
            at = row[answer.prompt_id], column[answer.model]
            features[answer.prompt_id] = answer.features
            scores[at], weights[at], created_s[at[0]] = answer.score, answer.weight, answer.created_s
        return QualityData(tuple(features[prompt] for prompt in row), models, scores, weights, created_s)

    @staticmethod
    def full(features: Sequence[PromptFeatures], models: Sequence[str], scores: FloatArray) -> "QualityData":
        """Full-information data [N, M] of one age; NaN scores count as unknown."""
        weights = np.isfinite(scores).astype(np.float64)
        return QualityData(tuple(features), tuple(models), scores, weights, np.zeros(len(features)))

    def with_models(self, models: Sequence[str]) -> "QualityData":
        """The same answers with the columns `models` first, unknown where absent, then the others."""
        order = (*models, *(model for model in self.models if model not in models))
        scores, weights = (
            np.full((len(self.features), len(order)), np.nan),
            np.zeros((len(self.features), len(order))),
        )
        columns = [order.index(model) for model in self.models]
        scores[:, columns], weights[:, columns] = self.scores, self.weights
        return QualityData(self.features, order, scores, weights, self.created_s)

    def decayed_weights(self, now_s: float, half_life_s: float) -> FloatArray:
        """[N, M] weights halved for each half-life of age; `half_life_s` inf keeps them."""
        age_s = np.maximum(now_s - self.created_s, 0.0)
        decayed: FloatArray = self.weights * np.exp2(-age_s / half_life_s)[:, None]
        return decayed
