"""Fits the quality model from the table's records in a process of its own, at low priority."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from deployments.apart import end_with_parent, run_apart
from deployments.evaluation_report import latest, wilson
from deployments.evaluator_settings import FitSettings
from deployments.records import DecisionRecord, EvaluationRecord, FeedbackRecord, OutcomeRecord
from policies.features import unpack
from policies.feedback_aggregate import Anchor, Vote, aggregate, anchored
from policies.outcome import Status
from policies.quality_data import QualityData, ScoredAnswer
from policies.quality_model import QualityModel

_MAX_LOGIT_SHIFT: Final = 4.0


class FitInput(msgspec.Struct):
    """What the fitting process reads."""

    evaluations: list[EvaluationRecord]
    votes: list[Vote]


async def fit_apart(data: FitInput, settings: FitSettings) -> QualityModel:
    """`fit_quality` in a process of low priority and few threads. Raises ApartError, TimeoutError."""
    fitted = await run_apart(
        "deployments.quality_fit",
        await asyncio.to_thread(msgspec.msgpack.encode, data),
        str(settings.nice),
        threads=settings.threads,
        timeout_s=settings.timeout_s,
    )
    return QualityModel.from_bytes(fitted)


def fit_quality(evaluations: Sequence[EvaluationRecord], votes: Sequence[Vote]) -> QualityModel:
    """The model fitted on all evaluations, then moved by the votes within the evaluation's intervals.

    Raises ValueError where there are no evaluations.
    """
    from policies.quality_training import fit

    records = [record for record in latest(evaluations) if record.features]
    answers = [
        ScoredAnswer(f"{r.suite}/{r.item}", unpack(r.features), r.model, r.score, 1.0, r.finished_s)
        for r in records
    ]
    model = fit(QualityData.from_answers(answers))
    anchors = anchors_of(records)
    voted = aggregate(votes, {name: anchor.mean for name, anchor in anchors.items()})
    shifts = {name: anchored(anchor, voted.get(name)) - anchor.mean for name, anchor in anchors.items()}
    return shifted(model, [record.features for record in records], shifts)


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


def shifted(model: QualityModel, packed: Sequence[bytes], shifts: dict[str, float]) -> QualityModel:
    """The model with each logit offset so that its mean prediction over prompts moves by `shifts`."""
    if not any(shifts.get(name) for name in model.models):
        return model
    predicted = np.array([model.predict_all(unpack(one))[0] for one in dict.fromkeys(packed)])  # [N, M]
    logits = np.log(np.clip(predicted, 1e-6, 1 - 1e-6) / np.clip(1 - predicted, 1e-6, 1 - 1e-6))
    offset = model.arrays["offset"].copy()
    for column, name in enumerate(model.models):
        target = predicted[:, column].mean() + shifts.get(name, 0.0)
        offset[column] += _logit_shift(logits[:, column], target)
    return QualityModel(model.manifest, {**model.arrays, "offset": offset})


def _logit_shift(logits: Any, target: float) -> float:
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
            votes.append(Vote(decision.key_id, decision.model, sum(said) / len(said)))
    return votes


def main() -> None:
    """`python -m deployments.quality_fit INPUT OUTPUT NICE`: read FitInput, write the quality model."""
    end_with_parent()
    import torch

    os.nice(int(sys.argv[3]))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    data = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=FitInput)
    Path(sys.argv[2]).write_bytes(fit_quality(data.evaluations, data.votes).to_bytes())


if __name__ == "__main__":
    main()
