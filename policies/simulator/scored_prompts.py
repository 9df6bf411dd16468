"""The quality table of a simulated pool from a file of scored prompts, split to train and to score."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policies.arrays import F64, I64
from policies.observation import PROMPT_FIELDS
from policies.prompt.features import PromptFeatures, extract
from policies.quality.data import QualityData
from policies.simulator.workload import QualityTable, synthetic_quality

TRAIN_SHARE = 2 / 3  # of a file's prompts; the rest is for scoring
FOLDS = 4  # training rows are predicted by models of the other folds
MOST_MODELS = 9  # of a file with more, evenly spread over the order of mean score


@dataclass(frozen=True, slots=True)
class ScoredPrompts:
    """A table with its split. `tasks` [Q] are the file's labels, "" where there is none."""

    table: QualityTable
    names: tuple[str, ...]
    tasks: tuple[str, ...]
    train_rows: I64
    test_rows: I64


def synthetic_prompts(models: int, rows: int, seed: int) -> ScoredPrompts:
    """Synthetic qualities, the first half to train on."""
    names = tuple(f"model-{i}" for i in range(models))
    half = rows // 2
    table = synthetic_quality(models, rows, seed)
    return ScoredPrompts(table, names, ("",) * rows, np.arange(half), np.arange(half, rows))


def read_quality(path: Path) -> list[dict[str, Any]]:
    """The lines of a quality file: `prompt`, `scores`, perhaps `task`. Raises ValueError for a bad one."""
    records = []
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                fine = isinstance(record["prompt"], str) and isinstance(record["scores"], dict)
            except (ValueError, KeyError, TypeError):
                fine = False
            if not fine:
                raise ValueError(
                    f"'{path.name}', line {number}: needs 'prompt' (text) and 'scores' (object)."
                )
            records.append(record)
    if len(records) < 100:
        raise ValueError(f"'{path.name}' holds {len(records)} prompts, needs at least 100.")
    return records


def scored_prompts(path: Path, seed: int) -> ScoredPrompts:
    """TRAIN_SHARE of the prompts to train on, the rest to score on; both drawn by `seed`.

    No prediction comes from the row's own scores: training rows are predicted by models of the other
    FOLDS - 1 folds of training rows, scored rows by a model of all training rows.
    """
    records = read_quality(path)
    names = _chosen_models(records)
    score = np.array([[float(record["scores"].get(name, 0.0)) for name in names] for record in records])
    features = [extract(record["prompt"]) for record in records]
    order = np.random.default_rng([seed, 2]).permutation(len(records))
    train, test = (np.sort(part) for part in np.split(order, [round(len(order) * TRAIN_SHARE)]))
    accuracy, std = np.empty_like(score), np.empty_like(score)
    fold = np.arange(len(train)) % FOLDS
    splits = [(train[fold != k], train[fold == k]) for k in range(FOLDS)]
    for fitted, predicted in (*splits, (train, test)):
        accuracy[predicted], std[predicted] = _predictions(features, names, score, fitted, predicted)
    prompt = np.array([feature.dense[: len(PROMPT_FIELDS)] for feature in features], dtype=np.float64)
    tasks = tuple(str(record.get("task") or "") for record in records)
    return ScoredPrompts(QualityTable(score, accuracy, std, prompt), names, tasks, train, test)


def _chosen_models(records: list[dict[str, Any]]) -> tuple[str, ...]:
    names = list(records[0]["scores"])
    if len(names) <= MOST_MODELS:
        return tuple(names)
    means = {name: float(np.mean([record["scores"].get(name, 0.0) for record in records])) for name in names}
    ordered = sorted(names, key=lambda name: means[name])
    return tuple(ordered[i] for i in np.linspace(0, len(ordered) - 1, MOST_MODELS).round().astype(int))


def _predictions(
    features: list[PromptFeatures], names: tuple[str, ...], score: F64, fitted: I64, predicted: I64
) -> tuple[F64, F64]:
    from policies.quality.training import fit

    model = fit(QualityData.full([features[i] for i in fitted], names, score[fitted]), now_s=0.0)
    pairs = [model.predict(features[i], names) for i in predicted]
    return np.array([mean for mean, _ in pairs]), np.array([std for _, std in pairs])
