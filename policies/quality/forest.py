"""A forest of extremely randomised trees, which finds the sharp borders between kinds of prompts."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from policies.arrays import F32, F64, I32
from policies.compiled import array, compiled, types
from policies.quality.kernel import FOREST

_F32, _I32 = array(types.float32), array(types.int32)
_F32_2, _F64_2 = array(types.float32, 2), array(types.float64, 2)


@compiled()
def _explained(total: F64, weight: F64) -> float:
    """How much of the squared error a node's own means take away, over all models."""
    gain = 0.0
    for m in range(len(total)):
        gain += total[m] * total[m] / (weight[m] + 1e-9)
    return gain


@compiled()
def _best_split(
    x: F32, targets: F64, weights: F64, rows: I32, least: int, tries: int
) -> tuple[int, np.float32]:
    """The best of `tries` random inputs, each with one random threshold; input -1 where none gains."""
    models = targets.shape[1]
    total, total_weight = np.zeros(models), np.zeros(models)
    for row in rows:
        for m in range(models):
            total[m] += targets[row, m]
            total_weight[m] += weights[row, m]
    best, feature, cut = _explained(total, total_weight) * (1.0 + 1e-9), -1, np.float32(0.0)
    left, left_weight = np.empty(models), np.empty(models)
    for _ in range(tries):
        column = np.random.randint(len(x))
        values = x[column]
        low = high = values[rows[0]]
        for row in rows:
            low, high = min(low, values[row]), max(high, values[row])
        at = np.float32(low + np.random.random() * (high - low))
        left[:] = 0.0
        left_weight[:] = 0.0
        count = 0
        for row in rows:
            if values[row] <= at:
                count += 1
                for m in range(models):
                    left[m] += targets[row, m]
                    left_weight[m] += weights[row, m]
        if min(count, len(rows) - count) >= least:
            gain = _explained(left, left_weight) + _explained(total - left, total_weight - left_weight)
            if gain > best:
                best, feature, cut = gain, column, at
    return feature, cut


@compiled()
def _partition(values: F32, rows: I32, cut: np.float32) -> int:
    """Reorder `rows` so that those up to `cut` come first; returns how many they are."""
    middle = 0
    for i in range(len(rows)):
        row = rows[i]
        if values[row] <= cut:
            rows[i], rows[middle] = rows[middle], row
            middle += 1
    return middle


@compiled(
    types.Tuple((_I32, _F32, _I32))(
        _F32_2, _F64_2, _F64_2, _I32, types.int64, types.int64, types.int64
    )
)  # fmt: skip
def grow(
    x: F32, targets: F64, weights: F64, rows: I32, least: int, tries: int, seed: int
) -> tuple[I32, F32, I32]:
    """`split`, `threshold` and `child` of a tree over the prompts `rows`, which are reordered.

    `x` [I, N]; `targets` [N, M] weight times score, centred; `weights` [N, M] >= 0. Splits lower the
    weighted squared error of the means, over all models together, and leave `least` prompts on either side
    (Geurts, Ernst and Wehenkel 2006).
    """
    np.random.seed(seed)
    size = 2 * (len(rows) // least) + 1
    split, child = np.full(size, -1, dtype=np.int32), np.zeros(size, dtype=np.int32)
    threshold = np.zeros(size, dtype=np.float32)
    begin, end = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    end[0] = len(rows)
    node, nodes, leaves = 0, 1, 0
    while node < nodes:  # breadth first: the nodes still to be split are those not yet looked at
        own = rows[begin[node] : end[node]]
        feature, cut = -1, np.float32(0.0)
        if len(own) >= 2 * least:
            feature, cut = _best_split(x, targets, weights, own, least, tries)
        if feature < 0:
            child[node] = leaves
            leaves += 1
        else:
            middle = begin[node] + _partition(x[feature], own, cut)
            split[node], threshold[node], child[node] = feature, cut, nodes
            begin[nodes], end[nodes] = begin[node], middle
            begin[nodes + 1], end[nodes + 1] = middle, end[node]
            nodes += 2
        node += 1
    return split[:nodes].copy(), threshold[:nodes].copy(), child[:nodes].copy()


Arrays = dict[str, npt.NDArray[Any]]

_TRIES: Final = 110  # random inputs looked at for a split
_MOST_LEAVES: Final = 800  # of one tree, however many the prompts


def plant(inputs: F32, targets: F64, shown: F64, trees: int, answers: float, seed: int) -> Arrays:
    """The shape of a forest: the arrays FOREST, the first three over the nodes of all trees, the last [T].

    `inputs` [N, I]; `targets` [N, M] scores less the models' means; `shown` [K, N, M] weights of answers,
    of which tree t looks at those of t modulo K. Leaves hold so many prompts that each model has about
    `answers` answers in them.
    """
    columns = np.ascontiguousarray(inputs.T)
    grown, roots, nodes, leaf_count = [], [], 0, 0
    for tree in range(trees):
        weights = shown[tree % len(shown)]
        rows = np.flatnonzero(weights.any(axis=1)).astype(np.int32)
        density = np.count_nonzero(weights) / max(len(rows) * weights.shape[1], 1)
        least = max(round(answers / max(density, 1e-2)), len(rows) // _MOST_LEAVES)
        split, threshold, child = grow(
            columns, weights * targets, weights, rows, least, _TRIES, seed * trees + tree
        )
        at_leaf = split < 0
        grown.append((split, threshold, child + np.where(at_leaf, leaf_count, nodes).astype(np.int32)))
        roots.append(nodes)
        nodes, leaf_count = nodes + len(split), leaf_count + int(at_leaf.sum())
    arrays = [*(np.concatenate(part) for part in zip(*grown, strict=True)), np.array(roots, dtype=np.int32)]
    return dict(zip(FOREST, arrays, strict=True))


def leaf_values(where: I32, targets: F64, shown: F64) -> F32:
    """[L, M] mean target of each leaf and model, drawn to 0 as if by one more answer.

    `where` [N, T] leaves of the prompts, `targets` [N, M], `shown` [K, N, M] as in `plant`.
    """
    count = int(where.max()) + 1
    total, weight = np.zeros((count, targets.shape[1])), np.ones((count, targets.shape[1]))
    for member, weights in enumerate(shown):
        inside = _indicator(where[:, member :: len(shown)], count)
        total += inside.T @ (weights * targets)
        weight += inside.T @ weights
    values: F32 = (total / weight).astype(np.float16).astype(np.float32)
    return values


def members_of(where: I32, values: F32, count: int) -> F32:
    """[K, N, M] what the trees of each of `count` members say on average; `where` [N, T], `values` [L, M]."""
    predictions = []
    for member in range(count):
        own = where[:, member::count]
        predictions.append(_indicator(own, len(values)) @ values / np.float32(own.shape[1]))
    return np.stack(predictions)


def _indicator(where: I32, leaf_count: int) -> sparse.csr_matrix:
    """[N, L] 1 where a prompt lies in a leaf."""
    prompts, trees = where.shape
    ones = np.ones(where.size, dtype=np.float32)
    starts = np.arange(0, where.size + 1, trees)
    return sparse.csr_matrix((ones, where.ravel(), starts), shape=(prompts, leaf_count))
