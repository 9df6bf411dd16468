"""Fits the quality model from scored answers."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from policies.arrays import F32, F64, Bools
from policies.quality.calibration import blend, logit, sigmoid
from policies.quality.data import QualityData
from policies.quality.forest import leaf_values, members_of, plant
from policies.quality.kernel import EMBEDDING_SCALE, STYLE_LIMIT, leaves_of, packed
from policies.quality.model import UNKNOWN, QualityManifest, QualityModel
from policies.quality.network import QualityNetwork, Training, predict, train
from policies.quality.tfidf import embedding_table, ridge, term_weights, tfidf_matrix

Arrays = dict[str, npt.NDArray[Any]]
_SLOPES = (0.4, 0.2, 0.4)  # of networks, linear model and forest, before anything is known of them
_SLOPES_ANSWERS = 20.0  # answers that these count as
_MOST_HELD_OUT = 5_000  # prompts whose held-out predictions are kept, for floors
_MANY = 2000  # prompts from which on an n-gram must be in three of them to count


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """How to fit; the defaults are what the benchmarks use."""

    buckets: int = 1 << 16
    dimensions: int = 64
    hidden: int = 64
    folds: int = 8  # networks, each fitted without one fold, which calibrates it
    epochs: int = 15
    batch: int = 128
    learning_rate: float = 0.01
    weight_decay: float = 0.3
    dropout: float = 0.4
    penalty: float = 3.0  # of the linear model, in prompts
    steps: int = 15
    trees: int = 128  # a multiple of the folds
    leaf_answers: float = 8.0  # of each model in a leaf
    seed: int = 0


def fit(
    data: QualityData, settings: QualitySettings | None = None, now_s: float | None = None
) -> QualityModel:
    """A quality model from scored answers. Raises ValueError where there are none."""
    settings = settings or QualitySettings()
    if not data.features or not data.models or not (data.weights > 0).any():
        raise ValueError("quality data: no scored answers, at least one is needed.")
    term = term_weights(data.features, settings.buckets, _least(len(data.features)))
    matrix = tfidf_matrix(data.features, term, settings.buckets)
    embedding = embedding_table(matrix, settings.dimensions, settings.seed)
    style = np.array([prompt.style for prompt in data.features])
    style_mean, style_scale = style.mean(axis=0), style.std(axis=0) + np.float32(0.05)
    scores, weights = np.nan_to_num(data.scores), data.weights
    means = _means(scores, weights)
    shown = _fold_weights(weights, settings)  # [K, N, M]
    held_out = shown.sum(axis=2) == 0  # [K, N]
    linear, linear_scores = _linear(matrix, scores - means, shown, settings)
    inputs = _inputs(matrix @ embedding, (style - style_mean) / style_scale)
    network = _network(inputs, scores, shown, means, settings)
    guesses = [_unseen(predict(network, inputs), held_out), logit(means + _unseen(linear_scores, held_out))]
    forest, tree_scores = _forest(inputs, guesses, scores - means, shown, settings)
    guesses.append(logit(means + _unseen(tree_scores, held_out)))
    slopes, offset = np.array(_SLOPES), np.zeros(len(data.models))
    if held_out.any():
        slopes, offset = blend(np.stack(guesses), data.scores, weights, slopes, offset, _SLOPES_ANSWERS)
    known = weights > 0
    held_predicted = sigmoid(np.einsum("s,snm->nm", slopes, np.stack(guesses)) + offset)
    arrays = {
        "weights": term, "style_mean": style_mean, "style_scale": style_scale,
        "table": np.concatenate([embedding, linear], axis=1).astype(np.float16).astype(np.float32),
        **network.arrays(), **forest, "means": means.astype(np.float32), "slopes": slopes, "offset": offset,
        "evidence": known.sum(axis=0).astype(np.float64),
    }  # fmt: skip
    if held_out.any():
        newest = slice(-_MOST_HELD_OUT, None)
        arrays["held_predicted"] = held_predicted[newest].astype(np.float32)
        arrays["held_scores"] = np.where(known, scores, UNKNOWN)[newest].astype(np.float32)
    now_s = time.time() if now_s is None else now_s
    manifest = QualityManifest(data.models, settings.buckets, now_s, len(data.features), int(known.sum()))
    return QualityModel(manifest, arrays)


def _least(prompts: int) -> int:
    """In how many prompts an n-gram must occur: those of few prompts are noise, but all there is at first."""
    return 1 if prompts < 50 else 2 if prompts < _MANY else 3


def _unseen(predictions: F32 | F64, held_out: Bools) -> F64:
    """[N, M] of [K, N, M]: the mean over the members that a prompt was held out from; over all if none."""
    share = np.where(held_out.any(axis=0), held_out, 1.0)
    average: F64 = np.einsum("kn,knm->nm", share / share.sum(axis=0), predictions)
    return average


def _means(scores: F64, weights: F64) -> F64:
    """[M] mean score of each model, drawn a little to the mean of all."""
    overall = float((weights * scores).sum()) / float(weights.sum())
    means: F64 = ((weights * scores).sum(axis=0) + overall) / (weights.sum(axis=0) + 1.0)
    return means


def _fold_weights(weights: F64, settings: QualitySettings) -> F64:
    """[K, N, M] what each member may look at: all but its own fold; everything where prompts are few."""
    count = len(weights)
    shown = np.repeat(weights[None], settings.folds, axis=0)
    if count >= 5 * settings.folds and settings.folds > 1:
        fold = np.random.default_rng(settings.seed).permutation(count) % settings.folds
        shown[fold, np.arange(count)] = 0.0
    return shown


def _linear(
    matrix: sparse.csr_matrix, targets: F64, shown: F64, settings: QualitySettings
) -> tuple[F32, F64]:
    """[buckets, M] mean linear model of the members, [K, N, M] what each of them says."""
    members, count, m = shown.shape
    columns = np.ascontiguousarray(np.moveaxis(shown, 0, 1).reshape(count, members * m), dtype=np.float32)
    repeated = np.tile(targets, members).astype(np.float32)
    solved = ridge(matrix, repeated, columns, settings.penalty, settings.steps)
    predictions = np.asarray(matrix @ solved).reshape(count, members, m)
    mean: F32 = solved.reshape(-1, members, m).mean(axis=1)
    return mean, np.moveaxis(predictions, 1, 0)


def _forest(
    inputs: F32, guesses: list[F64], targets: F64, shown: F64, settings: QualitySettings
) -> tuple[Arrays, F32]:
    """The forest's arrays and [K, N, M] what each member's trees say.

    It sees what the networks see and the mean logit of `guesses` [N, M] for each model, as it is and less
    the mean over the models, held out as all that is stacked must be (Wolpert 1992).
    """
    guess = np.mean(guesses, axis=0)
    pairs = np.stack([guess, guess - guess.mean(axis=1, keepdims=True)], axis=2)
    tree_inputs = np.concatenate([inputs, pairs.reshape(len(guess), -1)], axis=1, dtype=np.float32)
    shape = plant(tree_inputs, targets, shown, settings.trees, settings.leaf_answers, settings.seed)
    where = leaves_of(tree_inputs, *packed(shape))
    values = leaf_values(where, targets, shown)
    return {**shape, "leaves": values}, members_of(where, values, len(shown))


def _inputs(embedded: F32, style: F32) -> F32:
    """[N, D + S] what the networks see, as QualityModel.inputs computes it for one prompt; `style` [N, S] in
    standard deviations."""
    length = np.linalg.norm(embedded, axis=1, keepdims=True) + 1e-6
    parts = [embedded * (EMBEDDING_SCALE / length), style.clip(-STYLE_LIMIT, STYLE_LIMIT)]
    inputs: F32 = np.concatenate(parts, axis=1, dtype=np.float32)
    return inputs


def _network(inputs: F32, scores: F64, shown: F64, means: F64, settings: QualitySettings) -> QualityNetwork:
    """The trained ensemble."""
    how = Training(
        settings.epochs, settings.batch, settings.learning_rate, settings.weight_decay, settings.dropout,
        settings.seed,
    )  # fmt: skip
    bias = logit(means).astype(np.float32)
    network = QualityNetwork(len(shown), inputs.shape[1], settings.hidden, bias, settings.seed)
    train(network, inputs, scores.astype(np.float32), shown.astype(np.float32), how)
    return network
