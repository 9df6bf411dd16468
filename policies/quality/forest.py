"""A forest of extremely randomised trees, which finds the sharp borders between kinds of prompts."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from policies.forest_kernel import grow
from policies.observation import FloatArray
from policies.quality.kernel import FOREST

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Arrays = dict[str, npt.NDArray[Any]]

_TRIES: Final = 110  # random inputs looked at for a split
_MOST_LEAVES: Final = 800  # of one tree, however many the prompts


def plant(
    inputs: F32, targets: FloatArray, seen: FloatArray, trees: int, answers: float, seed: int
) -> Arrays:
    """The shape of a forest: the arrays FOREST, the first three over the nodes of all trees, the last [T].

    `inputs` [N, I]; `targets` [N, M] scores less the models' means; `seen` [K, N, M] weights of answers,
    of which tree t looks at those of t modulo K. Leaves hold so many prompts that each model has about
    `answers` answers in them.
    """
    columns = np.ascontiguousarray(inputs.T)
    grown, roots, nodes, leaf_count = [], [], 0, 0
    for tree in range(trees):
        weights = seen[tree % len(seen)]
        rows = np.flatnonzero(weights.any(axis=1)).astype(np.int32)
        known = np.count_nonzero(weights) / max(len(rows) * weights.shape[1], 1)
        least = max(round(answers / max(known, 1e-2)), len(rows) // _MOST_LEAVES)
        split, threshold, child = grow(
            columns, weights * targets, weights, rows, least, _TRIES, seed * trees + tree
        )
        at_leaf = split < 0
        grown.append((split, threshold, child + np.where(at_leaf, leaf_count, nodes).astype(np.int32)))
        roots.append(nodes)
        nodes, leaf_count = nodes + len(split), leaf_count + int(at_leaf.sum())
    arrays = [*(np.concatenate(part) for part in zip(*grown, strict=True)), np.array(roots, dtype=np.int32)]
    return dict(zip(FOREST, arrays, strict=True))


def leaf_values(where: I32, targets: FloatArray, seen: FloatArray) -> F32:
    """[L, M] mean target of each leaf and model, drawn to 0 as if by one more answer.

    `where` [N, T] leaves of the prompts, `targets` [N, M], `seen` [K, N, M] as in `plant`.
    """
    count = int(where.max()) + 1
    total, weight = np.zeros((count, targets.shape[1])), np.ones((count, targets.shape[1]))
    for member, weights in enumerate(seen):
        inside = _indicator(where[:, member :: len(seen)], count)
        total += inside.T @ (weights * targets)
        weight += inside.T @ weights
    found: F32 = (total / weight).astype(np.float16).astype(np.float32)
    return found


def members_of(where: I32, values: F32, count: int) -> F32:
    """[K, N, M] what the trees of each of `count` members say on average; `where` [N, T], `values` [L, M]."""
    said = []
    for member in range(count):
        own = where[:, member::count]
        said.append(_indicator(own, len(values)) @ values / np.float32(own.shape[1]))
    return np.stack(said)


def _indicator(where: I32, leaf_count: int) -> sparse.csr_matrix:
    """[N, L] 1 where a prompt lies in a leaf."""
    prompts, trees = where.shape
    ones = np.ones(where.size, dtype=np.float32)
    starts = np.arange(0, where.size + 1, trees)
    return sparse.csr_matrix((ones, where.ravel(), starts), shape=(prompts, leaf_count))
