"""The quality model's arithmetic for one prompt, compiled: policies.quality.model says what the arrays are.

Shapes: K n-grams of the prompt, D embedding dimensions, S style fields, N networks, H hidden units, M models,
T trees, which policies.quality.forest describes.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policies.arrays import F32, F64, I32, U32
from policies.compiled import array, compiled, prefetch, types
from policies.prompt.hashed_ngrams import COUNT_BITS, HASH_BITS, MAX_COUNT

EMBEDDING_SCALE: Final = 4.0  # length of the prompt embedding that the networks see
STYLE_LIMIT: Final = 4.0  # standard deviations
MOST_STD: Final = 0.5
FOREST: Final[tuple[str, ...]] = ("split", "threshold", "child", "roots")  # a forest without its leaves
LOWEST, HIGHEST = 0.02, 0.98  # what one predictor may say

_HALF: Final = np.float32(0.5**0.5)  # characters and words each have half of the squared length
_TINY: Final = np.float32(1e-6)
_AHEAD: Final = 16  # rows of the table that are on their way while one is added
_LINE: Final = 16  # float32 in a cache line
_COUNT, _COUNT_BITS = np.uint32(MAX_COUNT), np.uint32(COUNT_BITS)  # places in an n-gram
_WORD_SHIFT: Final = np.uint32(COUNT_BITS + HASH_BITS)


@compiled()
def _terms(grams: U32, weights: F32, buckets: U32, values: F32, squares: F32) -> int:
    """Write bucket and TF-IDF value of the n-grams that have a weight; returns how many.

    Characters fall in the lower half of the buckets, words in the upper; `squares` [2] are their sums.
    """
    half, terms = np.uint32(len(weights) >> 1), 0
    for gram in grams:
        word, count = gram >> _WORD_SHIFT, gram & _COUNT
        bucket = ((gram >> _COUNT_BITS) & (half - np.uint32(1))) + word * half
        value = weights[bucket]
        if count > 1:
            value *= np.float32(1.0 + math.log(count))
        buckets[terms] = bucket
        values[terms] = value
        squares[word] += value * value
        terms += value != 0.0
    return terms


@compiled()
def _bag(grams: U32, weights: F32, table: F32) -> F32:
    """[D + M] sum of the n-grams' rows, characters and words each scaled to length sqrt(1/2)."""
    width, half = table.shape[1], np.uint32(len(weights) >> 1)
    buckets = np.empty(len(grams), dtype=np.uint32)
    values = np.empty(len(grams), dtype=np.float32)
    squares = np.zeros(2, dtype=np.float32)
    terms = _terms(grams, weights, buckets, values, squares)
    scales = _HALF / (np.sqrt(squares) + _TINY)
    bag = np.zeros(width, dtype=np.float32)
    for k in range(-_AHEAD, terms):
        if k + _AHEAD < terms:
            for line in range(0, width, _LINE):
                prefetch(table, buckets[k + _AHEAD], line)
        if k >= 0:
            bucket = buckets[k]
            value = values[k] * scales[np.int64(bucket >= half)]
            for j in range(width):
                bag[j] += value * table[bucket, j]
    return bag


_F32, _F32_2, _F32_3 = array(types.float32), array(types.float32, 2), array(types.float32, 3)
_F64_2, _I32, _I32_2 = array(types.float64, 2), array(types.int32), array(types.int32, 2)


@compiled(types.UniTuple(_F32, 2)(array(types.uint32), _F32, _F32, _F32_2, _F32_2, types.int64))
def quality_inputs(
    grams: U32, style: F32, weights: F32, table: F32, standard: F32, dimensions: int
) -> tuple[F32, F32]:
    """[D + S] the inputs of the networks for a prompt, [M] what the linear model adds to its bias.

    `grams` [K] and `style` [S] are those of PromptFeatures; `weights` [buckets]; `table` [buckets, D + M];
    `standard` [2, S] mean and 1 / deviation of the style fields; `dimensions` D.
    """
    bag = _bag(grams, weights, table)
    x = np.empty(dimensions + len(style), dtype=np.float32)
    square = np.float32(0.0)
    for i in range(dimensions):
        square += bag[i] * bag[i]
    scale = np.float32(EMBEDDING_SCALE) / (np.sqrt(square) + _TINY)
    for i in range(dimensions):
        x[i] = bag[i] * scale
    for i in range(len(style)):
        deviations = (style[i] - standard[0, i]) * standard[1, i]
        x[dimensions + i] = min(max(deviations, -STYLE_LIMIT), STYLE_LIMIT)
    return x, bag[dimensions:]


@compiled()
def _hidden(x: F32, layer: F32) -> F32:
    """[N * H] relu of the first layer [D + S + 1, N * H], whose last row is the bias."""
    hidden = layer[-1].copy()
    for i in range(len(x)):
        value = x[i]
        for j in range(len(hidden)):
            hidden[j] += value * layer[i, j]
    for j in range(len(hidden)):
        hidden[j] = max(hidden[j], np.float32(0.0))
    return hidden


@compiled()
def _members(hidden: F32, layer: F32) -> F32:
    """[N, M] logits of each network by the second layer [N, H + 1, M], whose last row is the bias."""
    networks, units, models = layer.shape
    logits = np.empty((networks, models), dtype=np.float32)
    for n in range(networks):
        for m in range(models):
            logits[n, m] = layer[n, units - 1, m]
        for h in range(units - 1):
            value = hidden[n * (units - 1) + h]
            for m in range(models):
                logits[n, m] += value * layer[n, h, m]
    return logits


def packed(forest: Mapping[str, npt.NDArray[Any]]) -> tuple[I32, I32]:
    """The forest as it is walked: nodes [*, 4] of one cache line's quarter each, and the roots [T].

    A node is the input that it asks about, the bits of its float32 threshold, the node for values up to
    it, and the number of the leaf. At a leaf no value is above the threshold, and the next node is itself.
    """
    split, threshold, child, roots = (forest[name] for name in FOREST)
    at_leaf = split < 0
    nodes = np.empty((len(split), 4), dtype=np.int32)
    nodes[:, 0] = np.maximum(split, 0)
    nodes[:, 1] = np.where(at_leaf, np.float32(np.inf), threshold).astype(np.float32).view(np.int32)
    nodes[:, 2] = np.where(at_leaf, np.arange(len(split)), child)
    nodes[:, 3] = np.where(at_leaf, child, -1)
    return nodes, np.asarray(roots, dtype=np.int32)


@compiled()
def _descend(x: F32, nodes: I32, roots: I32, at: I32) -> None:
    """Write [T] the leaf that inputs fall into, of each tree. All trees go down a level at a time, so that
    their nodes are fetched together; a node at a leaf leads to itself."""
    cuts = nodes.view(np.float32)
    at[:] = roots
    moved = True
    while moved:
        moved = False
        for tree in range(len(at)):
            node = at[tree]
            after = nodes[node, 2] + np.int32(x[nodes[node, 0]] > cuts[node, 1])
            at[tree] = after
            moved |= after != node
    for tree in range(len(at)):
        at[tree] = nodes[at[tree], 3]


@compiled(array(types.int32, 2)(_F32_2, _I32_2, _I32))
def leaves_of(x: F32, nodes: I32, roots: I32) -> I32:
    """[N, T] leaves of N prompts, of inputs [N, D + S + 2 M]; `nodes` and `roots` as `packed`."""
    leaves = np.empty((len(x), len(roots)), dtype=np.int32)
    for row in range(len(x)):
        _descend(x[row], nodes, roots, leaves[row])
    return leaves


@compiled()
def _logit(p: float) -> float:
    p = min(max(p, LOWEST), HIGHEST)
    return math.log(p / (1.0 - p))


@compiled()
def _guesses(
    grams: U32, style: F32, weights: F32, table: F32, standard: F32, first: F32, second: F32, means: F64
) -> tuple[F32, F64, F32]:
    """[N, M] logits of the networks, [2, M] their mean and the linear model's logit, and [D + S + 2 M] what
    the forest sees: the networks' inputs, then for each model the mean of the two and by how much it is above
    that of all."""
    networks, models = second.shape[0], second.shape[2]
    x, linear = quality_inputs(grams, style, weights, table, standard, table.shape[1] - models)
    members = _members(_hidden(x, first), second)
    tree_inputs = np.empty(len(x) + 2 * models, dtype=np.float32)
    tree_inputs[: len(x)] = x
    guesses = np.zeros((2, models))
    mean_guess = np.float32(0.0)
    for m in range(models):
        for n in range(networks):
            guesses[0, m] += members[n, m] / networks
        guesses[1, m] = _logit(linear[m] + means[m])
        guess = np.float32((guesses[0, m] + guesses[1, m]) / 2.0)
        tree_inputs[len(x) + 2 * m] = guess
        mean_guess += guess / np.float32(models)
    for m in range(models):
        tree_inputs[len(x) + 2 * m + 1] = tree_inputs[len(x) + 2 * m] - mean_guess
    return members, guesses, tree_inputs


_KERNEL: Final = (
    array(types.uint32), _F32, _F32, _F32_2, _F32_2, _F32_2, _F32_3, _F64_2, _I32_2, _I32,
)  # fmt: skip


@compiled(_I32(*_KERNEL))
def quality_leaves(
    grams: U32, style: F32, weights: F32, table: F32, standard: F32, first: F32, second: F32,
    per_model: F64, nodes: I32, roots: I32,
) -> I32:  # fmt: skip
    """[T] the leaf of each tree that a prompt falls into; arguments as for `predict_quality`."""
    _, _, tree_inputs = _guesses(grams, style, weights, table, standard, first, second, per_model[0])
    at = np.empty(len(roots), dtype=np.int32)
    _descend(tree_inputs, nodes, roots, at)
    return at


@compiled(types.void(*_KERNEL, _F32_2, array(types.float64), _F64_2))
def predict_quality(
    grams: U32, style: F32, weights: F32, table: F32, standard: F32, first: F32, second: F32,
    per_model: F64, nodes: I32, roots: I32, leaves: F32, slopes: F64, out: F64,
) -> None:  # fmt: skip
    """Write [2, M]: expected scores and standard errors, see QualityModel.predict_all.

    `first` [D + S + 1, N * H] and `second` [N, H + 1, M] are the layers, a bias in their last rows;
    `per_model` [3, M] holds the models' means, the calibration's offset and the least variance; `nodes` and
    `roots` are the forest's as `packed`; `leaves` [L, M]; `slopes` [3] of networks, linear model and forest.
    """
    networks, models = second.shape[0], second.shape[2]
    members, guesses, tree_inputs = _guesses(
        grams, style, weights, table, standard, first, second, per_model[0]
    )
    at = np.empty(len(roots), dtype=np.int32)
    _descend(tree_inputs, nodes, roots, at)
    for leaf in at:
        prefetch(leaves, np.int64(leaf), 0)
    tree_sums = np.zeros(models)
    for leaf in at:
        for m in range(models):
            tree_sums[m] += leaves[leaf, m]
    rate = (slopes[0] + slopes[2]) ** 2 * (networks - 1.0) / networks
    for m in range(models):
        spread = 0.0
        for n in range(networks):
            spread += (members[n, m] - guesses[0, m]) ** 2
        logit = slopes[0] * guesses[0, m] + slopes[1] * guesses[1, m] + per_model[1, m]
        logit += slopes[2] * _logit(tree_sums[m] / len(roots) + per_model[0, m])
        mean = 1.0 / (1.0 + math.exp(-logit))
        slack = mean * (1.0 - mean)  # also the slope of the sigmoid
        out[0, m] = mean
        out[1, m] = min(math.sqrt(slack * (rate * slack * spread + per_model[2, m])), MOST_STD)
