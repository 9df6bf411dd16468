"""Fits the quality model from the table's evaluations, as a Ray task, and moves it by votes."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from deployments.bounded_task import Bounds, run_task
from deployments.learning.settings import FitSettings
from deployments.records.records import (
    DecisionRecord,
    EvaluationRecord,
    FeedbackRecord,
    OutcomeRecord,
    latest,
)
from policies.arrays import F64
from policies.outcome import Status
from policies.promotion.confidence import wilson
from policies.prompt.features import PromptFeatures, unpack
from policies.quality.data import QualityData, ScoredAnswer
from policies.quality.model import QualityModel
from policies.quality.votes import Anchor, Vote, aggregate, anchored, with_votes

TASK: Final = "fit-quality"  # what Ray calls it
_MAX_LOGIT_SHIFT: Final = 4.0


async def fit_task(evaluations: Sequence[EvaluationRecord], settings: FitSettings) -> QualityModel:
    """`fit_quality` as a Ray task of low priority and few threads. Raises TaskError, TimeoutError."""
    bounds = Bounds(settings.num_cpus, settings.threads, settings.nice, settings.timeout_s)
    encoded = await asyncio.to_thread(msgspec.msgpack.encode, evaluations)
    return QualityModel.from_bytes(await run_task(TASK, _fit_encoded, encoded, bounds))


def _fit_encoded(data: bytes) -> bytes:
    return fit_quality(msgspec.msgpack.decode(data, type=list[EvaluationRecord])).to_bytes()


def fit_quality(evaluations: Sequence[EvaluationRecord]) -> QualityModel:
    """The model fitted on all evaluations. Raises ValueError where there are none."""
    from policies.quality.training import fit

    answers = [
        ScoredAnswer(f"{r.suite}/{r.item}", unpack(r.features), r.model, r.score, r.finished_s)
        for r in _usable(evaluations)
    ]
    return fit(QualityData.from_answers(answers))


def with_feedback(
    model: QualityModel,
    evaluations: Sequence[EvaluationRecord],
    votes: Sequence[Vote],
    now_s: float,
    half_life_s: float,
) -> QualityModel:
    """The model fitted on `evaluations`, moved by votes, which takes less than a millisecond a vote.

    On average over the evaluated prompts a model moves to the mean that the evaluation's interval and the
    robust mean of the votes agree on; around that, prompts like those voted on move more than others.
    """
    if not votes:
        return model
    records = _usable(evaluations)
    prompts = [unpack(packed) for packed in dict.fromkeys(record.features for record in records)]
    anchors = anchors_of(records)
    voted = aggregate(votes, {name: anchor.mean for name, anchor in anchors.items()})
    moves = {name: anchored(anchor, voted.get(name)) - anchor.mean for name, anchor in anchors.items()}
    means = _predicted(model, prompts).mean(axis=0) + [moves.get(name, 0.0) for name in model.models]
    return brought_to(
        with_votes(brought_to(model, prompts, means), votes, now_s, half_life_s), prompts, means
    )


def _usable(evaluations: Sequence[EvaluationRecord]) -> list[EvaluationRecord]:
    return [record for record in latest(evaluations) if record.features]


def anchors_of(records: Sequence[EvaluationRecord]) -> dict[str, Anchor]:
    """What the evaluation says of each model over all suites."""
    scores: dict[str, list[float]] = {}
    for record in records:
        scores.setdefault(record.model, []).append(record.score)
    return {model: _anchor(some) for model, some in scores.items()}


def _anchor(scores: Sequence[float]) -> Anchor:
    mean = sum(scores) / len(scores)
    low, high = wilson(mean, len(scores))
    return Anchor(mean, low, high, len(scores))


def brought_to(model: QualityModel, prompts: Sequence[PromptFeatures], means: F64) -> QualityModel:
    """The model with each logit offset so that its mean predictions over prompts are `means` [M]."""
    predicted = np.clip(_predicted(model, prompts), 1e-6, 1 - 1e-6)
    logits = np.log(predicted / (1 - predicted))
    shifts = [_logit_shift(logits[:, column], mean) for column, mean in enumerate(means)]
    return QualityModel(model.manifest, {**model.arrays, "offset": model.arrays["offset"] + shifts})


def _predicted(model: QualityModel, prompts: Sequence[PromptFeatures]) -> F64:
    """[N, M] expected scores."""
    return np.array([model.predict_all(prompt)[0] for prompt in prompts])


def _logit_shift(logits: F64, target: float) -> float:
    """The constant that makes the mean of sigmoid(logits + constant) the target, by bisection."""
    low, high = -_MAX_LOGIT_SHIFT, _MAX_LOGIT_SHIFT
    for _ in range(50):
        middle = (low + high) / 2
        if (1.0 / (1.0 + np.exp(-(logits + middle)))).mean() < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def votes_of(
    feedback: Sequence[FeedbackRecord],
    transitions: Sequence[tuple[DecisionRecord, OutcomeRecord | None]],
    metrics: Sequence[str],
) -> list[Vote]:
    """One vote for each decision: the mean over its learned metrics.

    Only answers that came whole from the model that the decision chose say something about it. A
    comparison also speaks of the other decision, where it is the same key's.
    """
    scores: dict[tuple[str, str], list[float]] = {}
    for record in feedback:
        if record.metric in metrics:
            scores.setdefault((record.key_id, record.decision_id), []).append(record.score)
            if record.detail is not None:
                scores.setdefault((record.key_id, record.detail), []).append(1.0 - record.score)
    votes = []
    for decision, result in transitions:
        if result is None or result.outcome.status is not Status.OK or result.outcome.attempts > 1:
            continue
        said = scores.get((decision.key_id, decision.decision_id))
        if said:
            votes.append(
                Vote(
                    decision.key_id, decision.model, sum(said) / len(said), decision.features,
                    decision.propensity, decision.created_s,
                )
            )  # fmt: skip
    return votes
