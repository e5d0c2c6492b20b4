"""Tucker-2: a convolution as 1×1 to fewer channels, a small core with the kernel, and 1×1 to the outputs (Kim et al. 2016,
https://arxiv.org/abs/1511.06530), by higher-order orthogonal iteration (De Lathauwer et al. 2000)."""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array

_ITERATIONS = 3


def tucker2(W: Array, inputs: int, outputs: int) -> tuple[Array, Array, Array]:
    """W (out, in, *kernel) as (inputs, in, 1…), core (outputs, inputs, *kernel) and (out, outputs, 1…), float64."""
    W = W.astype(np.float64)
    ones = (1,) * (W.ndim - 2)
    before = _leading(W, 1, inputs)
    for _ in range(_ITERATIONS):
        behind = _leading(_projected(W, before, 1), 0, outputs)
        before = _leading(_projected(W, behind, 0), 1, inputs)
    core = _projected(_projected(W, before, 1), behind, 0)
    return before.T.reshape(inputs, -1, *ones), core, behind.reshape(-1, outputs, *ones)


def _projected(W: Array, basis: Array, axis: int) -> Array:
    """W with this axis in the coordinates of `basis` (size, rank)."""
    projected: Array = np.moveaxis(np.tensordot(W, basis, (axis, 0)), -1, axis)
    return projected


def _leading(W: Array, axis: int, count: int) -> Array:
    """The leading left singular vectors of the unfolding along an axis."""
    unfolded = np.moveaxis(W, axis, 0).reshape(W.shape[axis], -1)
    _, vectors = np.linalg.eigh(unfolded @ unfolded.T)
    found: Array = vectors[:, ::-1][:, :count]
    return found
