"""Leading singular vectors by random projection (Halko, Martinsson and Tropp 2011,
https://arxiv.org/abs/0909.4061, algorithm 4.4).

The matrix is multiplied with a few more random vectors than are wanted, and a few times with itself so that what is small dies
away; the wanted vectors lie in what is left. For few of many it is far faster than a whole decomposition.
"""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array

_MORE, _ITERATIONS = 16, 3


def leading(M: Array, rank: int, seed: int = 0) -> tuple[Array, Array]:
    """U (rows, rank) and the singular values (rank,) of M (rows, columns), float64. The products are made in float32."""
    A = M.astype(np.float32)
    width = min(rank + max(_MORE, rank // 4), *A.shape)
    Q, _ = np.linalg.qr(A @ np.random.default_rng(seed).standard_normal((A.shape[1], width), np.float32))
    for _ in range(_ITERATIONS):
        P, _ = np.linalg.qr(A.T @ Q)
        Q, _ = np.linalg.qr(A @ P)
    B = (Q.T @ A).astype(np.float64)
    values, V = np.linalg.eigh(B @ B.T)
    order = np.argsort(values)[::-1][:rank]
    return Q.astype(np.float64) @ V[:, order], np.sqrt(np.maximum(values[order], 0.0))
