"""Fits the quality model from scored answers, and brings it up to date with new ones."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from policies.calibration import blend, logit
from policies.embedding import embedding_table, tfidf_matrix
from policies.forest import leaf_values, members_of, plant
from policies.linear_scores import ridge
from policies.observation import BoolArray, FloatArray
from policies.quality_data import QualityData
from policies.quality_kernel import EMBEDDING_SCALE, FOREST, STYLE_LIMIT, leaves_of, packed
from policies.quality_model import QualityManifest, QualityModel
from policies.quality_network import QualityNetwork, Training, predict, train
from policies.term_weights import term_weights

F32 = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]
_FIRST_SLOPES = 20.0  # answers that the first guess of the calibration's slopes is worth
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
    half_life_s: float = float("inf")
    seed: int = 0


def fit(
    data: QualityData, settings: QualitySettings | None = None, now_s: float | None = None
) -> QualityModel:
    """A quality model from scored answers. Raises ValueError where there are none."""
    settings = settings or QualitySettings()
    if not data.features or not data.models or not (data.weights > 0).any():
        raise ValueError("quality data: no scored answers, at least one is needed.")
    weights = term_weights(data.features, settings.buckets, _least(len(data.features)))
    matrix = tfidf_matrix(data.features, weights, settings.buckets)
    style = np.array([prompt.style for prompt in data.features])
    m = len(data.models)
    table = np.zeros((settings.buckets, settings.dimensions + m), dtype=np.float32)
    table[:, : settings.dimensions] = embedding_table(matrix, settings.dimensions, settings.seed)
    start: Arrays = {
        "weights": weights,
        "table": table,
        "style_mean": style.mean(axis=0),
        "style_scale": style.std(axis=0) + np.float32(0.05),
        "slopes": np.array([0.4, 0.2, 0.4]),
        "offset": np.zeros(m),
        "evidence": np.zeros(m),
    }
    return _fitted(data, matrix, start, settings, now_s)


def update(
    model: QualityModel,
    data: QualityData,
    settings: QualitySettings | None = None,
    now_s: float | None = None,
) -> QualityModel:
    """The model moved by new answers, in a few passes: the old one is where every part starts from.

    `data` may hold new models, which begin with the mean of their own answers, and old answers
    again. Term weights and embeddings stay. Raises ValueError where there are no answers.
    """
    if not (data.weights > 0).any():
        raise ValueError("quality data: no scored answers, at least one is needed.")
    settings = settings or QualitySettings()
    folds = len(model.arrays["input"])
    settings = replace(
        settings, buckets=model.manifest.buckets, folds=folds, epochs=max(settings.epochs // 3, 1),
        learning_rate=settings.learning_rate / 3, weight_decay=0.0,
    )  # fmt: skip
    data = data.with_models(model.models)
    new = len(data.models) - len(model.models)
    start: Arrays = dict(model.arrays)
    start["table"] = np.pad(start["table"], ((0, 0), (0, new)))
    for name in ("offset", "evidence"):
        start[name] = np.pad(start[name], (0, new))
    start["leaves"] = np.pad(start["leaves"], ((0, 0), (0, new)))
    matrix = tfidf_matrix(data.features, start["weights"], settings.buckets)
    return _fitted(data, matrix, start, settings, now_s)


def _least(prompts: int) -> int:
    """In how many prompts an n-gram must occur: those of few prompts are noise, but all there is at first."""
    return 1 if prompts < 50 else 2 if prompts < _MANY else 3


def _fitted(
    data: QualityData,
    matrix: sparse.csr_matrix,
    start: Arrays,
    settings: QualitySettings,
    now_s: float | None,
) -> QualityModel:
    """Fit linear model, networks, forest and calibration from `start`."""
    now_s = time.time() if now_s is None else now_s
    weights = data.decayed_weights(now_s, settings.half_life_s)
    scores = np.nan_to_num(data.scores)
    means = _means(scores, weights, start)
    seen = _fold_weights(weights, settings)  # [K, N, M]
    held_out = seen.sum(axis=2) == 0  # [K, N]
    d = start["table"].shape[1] - len(data.models)
    linear, linear_scores = _linear(matrix, scores - means, seen, start["table"][:, d:], settings)
    inputs = _inputs(data, matrix @ start["table"][:, :d], start)
    network = _network(inputs, scores, seen, means, start, settings)
    guesses = [_unseen(predict(network, inputs), held_out), logit(means + _unseen(linear_scores, held_out))]
    forest, tree_scores = _forest(inputs, guesses, scores - means, seen, start, settings)
    guesses.append(logit(means + _unseen(tree_scores, held_out)))
    slopes, offset = start["slopes"], start["offset"]
    if held_out.any():
        worth = _FIRST_SLOPES + float(start["evidence"].sum())
        slopes, offset = blend(np.stack(guesses), data.scores, weights, slopes, offset, worth)
    table = np.concatenate([start["table"][:, :d], linear], axis=1).astype(np.float16).astype(np.float32)
    known = weights > 0
    arrays = {
        **start, **network.arrays(), **forest, "table": table, "means": means.astype(np.float32),
        "slopes": slopes, "offset": offset, "evidence": start["evidence"] + known.sum(axis=0),
    }  # fmt: skip
    manifest = QualityManifest(data.models, settings.buckets, now_s, len(data.features), int(known.sum()))
    return QualityModel(manifest, arrays)


def _unseen(said: F32 | FloatArray, held_out: BoolArray) -> FloatArray:
    """[N, M] of [K, N, M]: the mean over the members that a prompt was held out from; over all if none."""
    share = np.where(held_out.any(axis=0), held_out, 1.0)
    found: FloatArray = np.einsum("kn,knm->nm", share / share.sum(axis=0), said)
    return found


def _means(scores: FloatArray, weights: FloatArray, start: Arrays) -> FloatArray:
    """[M] mean score of each model, drawn a little to the mean of all; the old one where it had one."""
    total = max(float(weights.sum()), 1e-9)
    overall = float((weights * scores).sum()) / total
    means = ((weights * scores).sum(axis=0) + overall) / (weights.sum(axis=0) + 1.0)
    old = start.get("means", np.zeros(0))
    means[: len(old)] = old
    found: FloatArray = means
    return found


def _fold_weights(weights: FloatArray, settings: QualitySettings) -> FloatArray:
    """[K, N, M] what each member may look at: all but its own fold; everything where prompts are few."""
    count = len(weights)
    seen = np.repeat(weights[None], settings.folds, axis=0)
    if count >= 5 * settings.folds and settings.folds > 1:
        fold = np.random.default_rng(settings.seed).permutation(count) % settings.folds
        seen[fold, np.arange(count)] = 0.0
    return seen


def _linear(
    matrix: sparse.csr_matrix, targets: FloatArray, seen: FloatArray, old: F32, settings: QualitySettings
) -> tuple[F32, FloatArray]:
    """[buckets, M] mean linear model of the members, [K, N, M] what each of them says."""
    members, count, m = seen.shape
    columns = np.ascontiguousarray(np.moveaxis(seen, 0, 1).reshape(count, members * m), dtype=np.float32)
    wanted = np.tile(targets, members).astype(np.float32)
    start = np.tile(old, members)
    solved = ridge(matrix, wanted, columns, settings.penalty, settings.steps, start)
    said = np.asarray(matrix @ solved).reshape(count, members, m)
    mean: F32 = solved.reshape(-1, members, m).mean(axis=1)
    return mean, np.moveaxis(said, 1, 0)


def _forest(
    inputs: F32,
    guesses: list[FloatArray],
    targets: FloatArray,
    seen: FloatArray,
    start: Arrays,
    settings: QualitySettings,
) -> tuple[Arrays, F32]:
    """The forest's arrays and [K, N, M] what each member's trees say.

    It sees what the networks see and the mean logit of `guesses` [N, M] for each model, as it is and less
    the mean over the models, held out as all that is stacked must be (Wolpert 1992). An old forest keeps
    its shape.
    """
    guess = np.mean(guesses, axis=0)
    pairs = np.stack([guess, guess - guess.mean(axis=1, keepdims=True)], axis=2)  # new models come last
    sight = np.concatenate([inputs, pairs.reshape(len(guess), -1)], axis=1, dtype=np.float32)
    shape: Arrays = {name: start[name] for name in FOREST if name in start}
    shape = shape or plant(sight, targets, seen, settings.trees, settings.leaf_answers, settings.seed)
    where = leaves_of(sight, *packed(shape))
    nothing = np.zeros((int(where.max()) + 1, targets.shape[1]), dtype=np.float32)
    strength = settings.leaf_answers if "leaves" in start else 1.0
    values = leaf_values(where, targets, seen, start.get("leaves", nothing), strength)
    return {**shape, "leaves": values}, members_of(where, values, len(seen))


def _inputs(data: QualityData, embedded: F32, start: Arrays) -> F32:
    """[N, D + S] what the networks see, as QualityModel.inputs computes it for one prompt."""
    length = np.linalg.norm(embedded, axis=1, keepdims=True) + 1e-6
    style = np.array([prompt.style for prompt in data.features])
    style = ((style - start["style_mean"]) / start["style_scale"]).clip(-STYLE_LIMIT, STYLE_LIMIT)
    inputs: F32 = np.concatenate([embedded * (EMBEDDING_SCALE / length), style], axis=1, dtype=np.float32)
    return inputs


def _network(
    inputs: F32,
    scores: FloatArray,
    seen: FloatArray,
    means: FloatArray,
    start: Arrays,
    settings: QualitySettings,
) -> QualityNetwork:
    """The trained ensemble, begun from `start` where it holds one."""
    how = Training(
        settings.epochs, settings.batch, settings.learning_rate, settings.weight_decay, settings.dropout,
        settings.seed,
    )  # fmt: skip
    bias = logit(means).astype(np.float32)
    network = QualityNetwork(len(seen), inputs.shape[1], settings.hidden, bias, settings.seed)
    if "input" in start:
        network.load(start)
    train(network, inputs, scores.astype(np.float32), seen.astype(np.float32), how)
    return network
