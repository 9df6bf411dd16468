"""What a training run is made of: graded items as paired evidence, callers and arrivals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deployments.learning.log_fits import NotEnoughError
from deployments.records.records import DecisionRecord, EvaluationRecord, latest
from policies.arrays import F64
from policies.observation import CALLER_FIELDS, MODEL_COLUMN, MODEL_FIELDS, PROMPT_COLUMN
from policies.prompt.features import PromptFeatures, unpack
from policies.quality.data import QualityData, ScoredAnswer
from policies.quality.model import QualityModel
from policies.simulator.arrivals import Trace
from policies.simulator.spec import ModelSpec

_FOLDS = 3
_LONG_TOKENS = 60.0  # prompts above it are the slice `long`
_SYNTHETIC_REQUESTS = 4096


@dataclass(frozen=True, slots=True)
class Items:
    """Q suite items that all M models answered.

    `score`, `e2e_s`, `cost_usd` [Q, M] as measured; `accuracy`, `accuracy_std` [Q, M] predicted by quality
    models that were fitted without the item; `prompt` [Q, P]; `caller` [Q, C].
    """

    models: tuple[str, ...]
    score: F64
    e2e_s: F64
    cost_usd: F64
    accuracy: F64
    accuracy_std: F64
    prompt: F64
    caller: F64
    slices: Mapping[str, Sequence[str]]


def items(
    evaluations: Sequence[EvaluationRecord], models: Sequence[str], callers: Mapping[str, Sequence[float]]
) -> Items:
    """Items with an answer of every model. Raises NotEnoughError below 30 of them."""
    by_item: dict[tuple[str, str], dict[str, EvaluationRecord]] = {}
    for record in latest(evaluations):
        if record.features and record.error is None:
            by_item.setdefault((record.suite, record.item), {})[record.model] = record
    complete = [
        answers for _, answers in sorted(by_item.items()) if all(model in answers for model in models)
    ]
    if len(complete) < 30:
        raise NotEnoughError(f"{len(complete)} items were answered by all of {list(models)}, 30 are needed.")
    table = [[answers[model] for model in models] for answers in complete]
    first = [answers[0] for answers in table]
    features = [unpack(record.features) for record in first]
    score = np.array([[record.score for record in answers] for answers in table])
    accuracy, std = _held_out(features, score, models)
    default = callers.get("", (1.0, 1.0, 0.0, 0.0))
    return Items(
        models=tuple(models),
        score=score,
        e2e_s=np.array([[record.e2e_s or 0.0 for record in answers] for answers in table]),
        cost_usd=np.array([[record.cost_usd for record in answers] for answers in table]),
        accuracy=accuracy,
        accuracy_std=std,
        prompt=_prompts(features, table),
        caller=np.array([callers.get(record.profile, default) for record in first])[:, : len(CALLER_FIELDS)],
        slices={
            "task": [record.task for record in first],
            "language": [record.language or "unknown" for record in first],
            "length": [
                "long" if f.dense[PROMPT_COLUMN["prompt_tokens"]] > _LONG_TOKENS else "short"
                for f in features
            ],
        },
    )


def _prompts(features: Sequence[PromptFeatures], table: Sequence[Sequence[EvaluationRecord]]) -> F64:
    prompt = np.stack([f.dense for f in features])
    tokens = [np.mean([record.output_tokens for record in answers]) for answers in table]
    prompt[:, PROMPT_COLUMN["output_tokens"]] = tokens
    return prompt


def _held_out(features: Sequence[PromptFeatures], score: F64, models: Sequence[str]) -> tuple[F64, F64]:
    """[Q, M] predictions and standard errors of each item by a model fitted without its fold."""
    from policies.quality.training import fit

    mean, std = np.empty_like(score), np.empty_like(score)
    folds = np.arange(len(features)) % _FOLDS
    for fold in range(_FOLDS):
        answers = [
            ScoredAnswer(str(q), features[q], model, float(score[q, m]))
            for q in np.flatnonzero(folds != fold)
            for m, model in enumerate(models)
        ]
        model_: QualityModel = fit(QualityData.from_answers(answers))
        for q in np.flatnonzero(folds == fold):
            mean[q], std[q] = model_.predict(features[q], tuple(models))
    return mean, std


def rows(data: Items, pool: Sequence[ModelSpec]) -> F64:
    """[Q, M, F] the observation rows of the items on an idle pool: latency as each model usually needs."""
    values = np.zeros((*data.score.shape, len(MODEL_FIELDS)))
    usual_s = data.e2e_s.mean(axis=0)
    columns = {
        "weight": np.array([spec.weight for spec in pool]),
        "accuracy": data.accuracy,
        "accuracy_std": data.accuracy_std,
        "ttft_s": np.array([spec.overhead_s + spec.step_base_s for spec in pool]),
        "e2e_s": usual_s,
        "tpot_s": np.array([spec.step_base_s + spec.step_per_sequence_s for spec in pool]),
        "cost_usd": data.cost_usd,
        "slots": np.array([spec.slots for spec in pool]),
        "replicas": np.array([spec.max_replicas for spec in pool]),
    }
    for name, value in columns.items():
        values[..., MODEL_COLUMN[name]] = value
    return values


def callers_of(decisions: Sequence[DecisionRecord]) -> dict[str, tuple[float, ...]]:
    """The newest caller [C] of each profile, "" for plain `auto`."""
    return {record.profile: tuple(record.caller) for record in decisions if record.caller}


def trace_of(decisions: Sequence[DecisionRecord], data: Items, seed: int) -> Trace:
    """Arrivals to train on: as recorded where there are enough, else Poisson with the items' own lengths."""
    rng = np.random.default_rng([seed, 5])
    prompt = data.prompt[:, PROMPT_COLUMN["prompt_tokens"]]
    output = np.maximum(data.prompt[:, PROMPT_COLUMN["output_tokens"]], 1.0)
    chosen = rng.integers(0, len(prompt), _SYNTHETIC_REQUESTS)
    recorded = np.sort([record.created_s for record in decisions])
    if len(recorded) >= 500:
        gaps = np.minimum(np.diff(recorded), 10.0)
        arrival_s = np.cumsum(rng.choice(gaps, _SYNTHETIC_REQUESTS))
    else:
        arrival_s = np.cumsum(rng.exponential(1.0, _SYNTHETIC_REQUESTS))
    return Trace(arrival_s, prompt[chosen], output[chosen])
