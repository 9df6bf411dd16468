"""Latent semantic analysis: the table that turns hashed n-grams into a short dense vector."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from policies.prompt.features import PromptFeatures
from policies.term_weights import normalised

F32 = npt.NDArray[np.float32]
_OVERSAMPLING: Final = 16


def tfidf_matrix(features: Sequence[PromptFeatures], weights: F32, buckets: int) -> sparse.csr_matrix:
    """[N, buckets] the rows of `normalised`, without zeros."""
    rows = [normalised(prompt, weights, buckets) for prompt in features]
    starts = np.cumsum([0] + [len(columns) for columns, _ in rows])
    columns = np.concatenate([columns for columns, _ in rows]) if rows else np.zeros(0, np.int32)
    values = np.concatenate([values for _, values in rows]) if rows else np.zeros(0, np.float32)
    found = sparse.csr_matrix((values, columns, starts), shape=(len(rows), buckets), dtype=np.float32)
    found.sum_duplicates()
    found.eliminate_zeros()
    return found


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
    kept = min(dimensions, int(np.count_nonzero(values > 1e-6)))
    order = np.argsort(-values)[:kept]
    table[:, :kept] = projected @ (rotation[:, order] / np.sqrt(values[order]))
    return table
