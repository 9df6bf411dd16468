"""What the quality model is fitted from: scored answers, grouped by prompt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from policies.arrays import F64
from policies.prompt.features import PromptFeatures


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One model's graded answer, `score` in [0, 1], to one prompt.

    Answers to the same prompt share `prompt_id`, which is how paired evidence is recognised; `created_s`
    (wall clock) tells which one is the newest.
    """

    prompt_id: str
    features: PromptFeatures
    model: str
    score: float
    created_s: float = 0.0


@dataclass(frozen=True, slots=True)
class QualityData:
    """Scores of N prompts by M models: `scores` [N, M] in [0, 1], NaN where unknown, `weights` [N, M]
    >= 0 and 0 where unknown."""

    features: tuple[PromptFeatures, ...]
    models: tuple[str, ...]
    scores: F64
    weights: F64

    @staticmethod
    def from_answers(answers: Iterable[ScoredAnswer]) -> "QualityData":
        """Group answers by prompt; a model's last answer to a prompt replaces earlier ones."""
        answers = list(answers)
        models = tuple(sorted({answer.model for answer in answers}))
        column = {model: i for i, model in enumerate(models)}
        row = {prompt: i for i, prompt in enumerate(dict.fromkeys(answer.prompt_id for answer in answers))}
        features: dict[str, PromptFeatures] = {}
        scores = np.full((len(row), len(models)), np.nan)
        for answer in sorted(answers, key=lambda answer: answer.created_s):
            if not 0.0 <= answer.score <= 1.0:
                raise ValueError(f"score of '{answer.model}': {answer.score}, must be in [0, 1].")
            at = row[answer.prompt_id], column[answer.model]
            features[answer.prompt_id] = answer.features
            scores[at] = answer.score
        return QualityData.full([features[prompt] for prompt in row], models, scores)

    @staticmethod
    def full(features: Sequence[PromptFeatures], models: Sequence[str], scores: F64) -> "QualityData":
        """Every known score [N, M] with the weight 1; NaN is unknown."""
        return QualityData(tuple(features), tuple(models), scores, np.isfinite(scores).astype(np.float64))
