"""Predictors of scores that are compared: ours and the simple ones, each fitted on the same prompts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import sparse

from policies.arrays import F64
from policies.quality.data import QualityData
from policies.quality.model import QualityModel
from policies.quality.tfidf import ridge, term_weights, tfidf_matrix
from policies.quality.training import QualitySettings, fit
from scripts.benchmarks.quality.data import Scored

BUCKETS: Final = 1 << 18
_PENALTY: Final = 3.0
_STEPS: Final = 20
_NEIGHBOURS: Final = 100
_TASK_PRIOR: Final = 5.0  # prompts that the mean over all tasks is worth

Predictor = Callable[[Scored, Scored], F64]


def means(train: Scored) -> F64:
    """[M] mean known score; the mean of all where a model has none."""
    known = np.isfinite(train.scores)
    overall = float(train.scores[known].mean())
    total = np.where(known, train.scores, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), overall)


def best_single(train: Scored, test: Scored) -> F64:
    """[N, M] the mean of each model, whatever the prompt."""
    return np.tile(means(train), (len(test), 1))


def task_label(train: Scored, test: Scored) -> F64:
    """[N, M] the mean of each model on the prompt's labelled task, drawn to its mean; ours sees no label."""
    overall = means(train)
    by_task: dict[str | None, F64] = {}
    for task in set(train.tasks):
        some = train.scores[[i for i, own in enumerate(train.tasks) if own == task]]
        known = np.isfinite(some)
        total = np.where(known, some, 0.0).sum(axis=0) + _TASK_PRIOR * overall
        by_task[task] = total / (known.sum(axis=0) + _TASK_PRIOR)
    return np.array([by_task.get(task, overall) for task in test.tasks])


def tfidf(train: Scored, test: Scored) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """[N, buckets] and [T, buckets] TF-IDF matrices with the weights of `train`."""
    weights = term_weights(train.features, BUCKETS, 2 if len(train) >= 50 else 1)
    return tfidf_matrix(train.features, weights, BUCKETS), tfidf_matrix(test.features, weights, BUCKETS)


def regress(train: Scored, test: Scored, targets: F64, weights: F64) -> F64:
    """[T, C] TF-IDF ridge on `targets` [N, C]; NaN targets carry no weight."""
    x, z = tfidf(train, test)
    known = np.isfinite(targets) & (weights > 0)
    count = np.maximum((weights * known).sum(axis=0), 1e-9)
    centre = (np.where(known, targets, 0.0) * weights).sum(axis=0) / count
    wanted = np.where(known, targets - centre, 0.0).astype(np.float32)
    solved = ridge(x, wanted, (weights * known).astype(np.float32), _PENALTY, _STEPS)
    return centre + np.asarray(z @ solved)


def tfidf_ridge(train: Scored, test: Scored) -> F64:
    """[T, M] ridge regression of scores on word and character TF-IDF."""
    return regress(train, test, train.scores, np.ones_like(train.scores))


def knn(train: Scored, test: Scored) -> F64:
    """[T, M] mean score of the 100 nearest prompts by TF-IDF, weighted by the squared cosine."""
    x, z = tfidf(train, test)
    cosine = np.asarray((z @ x.T).todense())
    k = min(_NEIGHBOURS, len(train))
    near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
    weight = np.take_along_axis(cosine, near, axis=1).clip(0.0) ** 2
    known = np.isfinite(train.scores)[near]
    total = (weight[:, :, None] * np.where(known, train.scores[near], 0.0)).sum(axis=1) + 1e-6 * means(train)
    found: F64 = total / ((weight[:, :, None] * known).sum(axis=1) + 1e-6)
    return found


def quality_model(train: Scored, seed: int = 0) -> QualityModel:
    """Ours, fitted on every known score."""
    return fit(QualityData.full(train.features, train.models, train.scores), QualitySettings(seed=seed), 0.0)


def ours(train: Scored, test: Scored) -> F64:
    """[T, M] the quality model's expected scores, prompt by prompt as served."""
    model = quality_model(train)
    return np.array([model.predict_all(prompt)[0] for prompt in test.features])


@dataclass(frozen=True, slots=True)
class Named:
    """A predictor by the name that results give it."""

    name: str
    predict: Predictor


ROUTERS: Final = (
    Named("ours", ours),
    Named("knn", knn),
    Named("tfidf_ridge", tfidf_ridge),
    Named("task_label", task_label),
    Named("best_single", best_single),
)


def predictions(train: Scored, test: Scored) -> Mapping[str, F64]:
    """[T, M] predicted scores by predictor; the task's only where the file labels tasks."""
    labelled = len(set(train.tasks)) > 1
    return {r.name: r.predict(train, test) for r in ROUTERS if labelled or r.name != "task_label"}


def chosen_scores(predicted: F64, scores: F64) -> F64:
    """[N] score of the model with the highest prediction, among those whose score is known."""
    best = np.where(np.isfinite(scores), predicted, -np.inf).argmax(axis=1)
    picked: F64 = scores[np.arange(len(scores)), best]
    return picked
