"""Spatial separation: a k×l convolution as k×1 behind which 1×l comes (Jaderberg et al. 2014, https://arxiv.org/abs/1405.3866,
section 2.2), by the singular value decomposition of Tai et al. 2016 (https://arxiv.org/abs/1511.06067, theorem 1)."""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array


def separated(W: Array, rank: int) -> tuple[Array, Array]:
    """W (out, in, k, l) as a column (rank, in, k, 1) and a row (out, rank, 1, l), float64."""
    outputs, inputs, k, width = W.shape
    matrix = W.astype(np.float64).transpose(1, 2, 3, 0).reshape(inputs * k, width * outputs)
    U, s, Vt = np.linalg.svd(matrix, full_matrices=False)
    U, s, Vt = U[:, :rank], np.sqrt(s[:rank]), Vt[:rank]
    column = (U * s).T.reshape(-1, inputs, k, 1)
    row = (s[:, None] * Vt).reshape(-1, width, outputs).transpose(2, 0, 1)[:, :, None, :]
    return column, row
