"""SparseGPT: columns are pruned one after the other, and those to the right make up for the error.

Frantar, Alistarh, "SparseGPT: massive language models can be accurately pruned in one-shot", ICML 2023, algorithm 1.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.sparsity import Sparsity

from .masks import largest


def sparsegpt(W: Array, H: Array, sparsity: Sparsity, *, block: int = 128, damp: float = 0.01) -> tuple[Array, Array]:
    """The pruned `W` (out, in), float32, and its mask. `H` (in, in): the mean of x xᵀ over the inputs, up to a common factor.

    block: columns that are masked together (N:M masks M at a time), and after which the error is carried to the rest. damp:
    what is added to H's diagonal, as a share of its mean. Raises ValueError when M does not divide the inputs.
    """
    if sparsity.of and W.shape[1] % sparsity.of:
        raise ValueError(f"{W.shape[1]} columns are not groups of {sparsity.of}")
    dead = np.diagonal(H) <= 0  # inputs that are always zero: their weights count for nothing
    U = inverse_cholesky(H, damp)
    # Columns are worked on one at a time, so they are the rows here.
    Wt = np.ascontiguousarray(W.T, dtype=np.float32)
    Wt[dead] = 0
    Mt = np.ones(Wt.shape, bool)
    columns = len(Wt)
    if sparsity.of:
        block = max(block // sparsity.of, 1) * sparsity.of
    for i in range(0, columns, block):
        end = min(i + block, columns)
        E = np.zeros((end - i, Wt.shape[1]), np.float32)
        step = sparsity.of or end - i
        for j in range(i, end):
            if (j - i) % step == 0:
                stop = min(j + step, end)
                scores = (Wt[j:stop] / np.diagonal(U)[j:stop, None]) ** 2
                Mt[j:stop] = largest(scores.T, sparsity).T
            E[j - i] = np.where(Mt[j], 0, Wt[j] / U[j, j])
            Wt[j:end] -= np.outer(U[j, j:end], E[j - i])
        Wt[end:] -= U[i:end, end:].T @ E
    return np.where(Mt, Wt, 0).T, Mt.T


def inverse_cholesky(H: Array, damp: float) -> Array:
    """The upper triangular U with Uᵀ U = (H + λI)⁻¹, float32. Found without an inverse: if H with its order reversed is L Lᵀ,
    then U is L⁻¹ with its order reversed. A matrix that rounding has left indefinite (of values too small for float32, say) is
    damped more."""
    H = H.astype(np.float64)
    diagonal = np.diagonal(H).copy()
    mean = float(diagonal.mean())
    diagonal[diagonal <= 0] = mean or 1.0
    L = _factor(H, diagonal, mean or 1.0, damp)
    U: Array = _lower_inverse(L)[::-1, ::-1].astype(np.float32)
    return U


def _factor(H: Array, diagonal: Array, mean: float, damp: float) -> Array:
    """That of H with its order reversed, damped until it is definite."""
    for _ in range(4):
        np.fill_diagonal(H, diagonal + damp * mean)
        with suppress(np.linalg.LinAlgError):
            return np.linalg.cholesky(H[::-1, ::-1])
        damp = 10 * max(damp, 0.01)
    np.fill_diagonal(H, diagonal + damp * mean)
    return np.linalg.cholesky(H[::-1, ::-1])


def _lower_inverse(L: Array) -> Array:
    """The inverse of a lower triangular matrix, by halves."""
    n = len(L)
    if n <= 64:
        return np.tril(np.linalg.inv(L))
    half = n // 2
    inverse = np.zeros_like(L)
    inverse[:half, :half] = _lower_inverse(L[:half, :half])
    inverse[half:, half:] = _lower_inverse(L[half:, half:])
    inverse[half:, :half] = -inverse[half:, half:] @ (L[half:, :half] @ inverse[:half, :half])
    return inverse
