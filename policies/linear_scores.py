"""Ridge regression of scores on TF-IDF, one column per model and fold, by conjugate gradients."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

F32 = npt.NDArray[np.float32]


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
