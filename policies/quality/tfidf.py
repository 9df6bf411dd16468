"""TF-IDF of hashed n-grams, and what is computed from it: ridge regression, latent semantic analysis."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from policies.arrays import F32
from policies.prompt.features import PromptFeatures
from policies.prompt.hashed_ngrams import HASH_BITS, WORD_BIT


def ridge(matrix: sparse.csr_matrix, targets: F32, weights: F32, penalty: float, steps: int) -> F32:
    """[buckets, C] W that minimises sum_n weights_nc (targets_nc - x_n W_c)^2 + penalty |W_c|^2.

    `matrix` [N, buckets], `targets`, `weights` [N, C]. Block conjugate gradients, a step length per column;
    the rows have length 1, so the system is well conditioned and some 15 steps are enough.
    """
    residual = matrix.T @ (weights * targets)
    solution, direction = np.zeros_like(residual), residual.copy()
    size = np.einsum("bc,bc->c", residual, residual)
    for _ in range(steps):
        image = matrix.T @ (weights * (matrix @ direction)) + penalty * direction
        step = size / (np.einsum("bc,bc->c", direction, image) + 1e-12)
        solution += step * direction
        residual -= step * image
        grown = np.einsum("bc,bc->c", residual, residual)
        direction = residual + (grown / (size + 1e-12)) * direction
        size = grown
    return solution


HALF: Final = np.float32(0.5**0.5)  # characters and words each have half of the squared length
_TINY: Final = 1e-6


def buckets_of(ids: npt.NDArray[np.int32], buckets: int) -> npt.NDArray[np.int32]:
    """[K] bucket of each id: characters in the lower half, words in the upper half."""
    half = buckets >> 1
    return (ids & (half - 1)) + (ids >> HASH_BITS) * half


def term_weights(features: Sequence[PromptFeatures], buckets: int, least: int) -> F32:
    """[buckets] smoothed idf, ln((1 + N) / (1 + df)) + 1; 0 for buckets in fewer than `least` prompts."""
    count = np.zeros(buckets, dtype=np.int64)
    for prompt in features:
        count[buckets_of(prompt.ids, buckets)] += 1
    idf = np.log((1 + len(features)) / (1 + count)) + 1.0
    idf[count < least] = 0.0
    return idf.astype(np.float32)


def normalised(features: PromptFeatures, weights: F32, buckets: int) -> tuple[npt.NDArray[np.int32], F32]:
    """[K] buckets and [K] TF-IDF values of one prompt, characters and words each of length sqrt(1/2)."""
    columns = buckets_of(features.ids, buckets)
    values = features.values * weights.take(columns)
    split = int(features.ids.searchsorted(WORD_BIT))
    for part in (values[:split], values[split:]):
        part *= HALF / (np.sqrt(part @ part) + _TINY)
    return columns, values


_OVERSAMPLING: Final = 16


def tfidf_matrix(features: Sequence[PromptFeatures], weights: F32, buckets: int) -> sparse.csr_matrix:
    """[N, buckets] the rows of `normalised`, without zeros."""
    rows = [normalised(prompt, weights, buckets) for prompt in features]
    starts = np.cumsum([0] + [len(columns) for columns, _ in rows])
    columns = np.concatenate([columns for columns, _ in rows]) if rows else np.zeros(0, np.int32)
    values = np.concatenate([values for _, values in rows]) if rows else np.zeros(0, np.float32)
    tfidf = sparse.csr_matrix((values, columns, starts), shape=(len(rows), buckets), dtype=np.float32)
    tfidf.sum_duplicates()
    tfidf.eliminate_zeros()
    return tfidf


def embedding_table(matrix: sparse.csr_matrix, dimensions: int, seed: int) -> F32:
    """[buckets, D] leading right singular vectors of `matrix` [N, buckets], zeros where N is too small.

    Randomised range finder with one power iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4).
    """
    prompts, buckets = matrix.shape
    table = np.zeros((buckets, dimensions), dtype=np.float32)
    rank = min(dimensions + _OVERSAMPLING, prompts)
    random = np.random.default_rng(seed)
    sketch = matrix @ random.standard_normal((buckets, rank), dtype=np.float32)
    basis, _ = np.linalg.qr(sketch)
    basis, _ = np.linalg.qr(matrix @ (matrix.T @ basis))
    projected = matrix.T @ basis
    values, rotation = np.linalg.eigh(projected.T @ projected)
    usable = min(dimensions, int(np.count_nonzero(values > 1e-6)))
    order = np.argsort(-values)[:usable]
    table[:, :usable] = projected @ (rotation[:, order] / np.sqrt(values[order]))
    return table
