"""The magnitude of units: how large the weights are that write and read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit.core.channels import Positions
from modelkit.core.forms import Array


def unit_norms(parts: Sequence[tuple[Array, int, Positions]], size: int) -> Array:
    """Scores (size,) of a group's units, of mean 1, so that they compare across groups.

    parts: (weight, axis, unit of each position along the axis, or −1). A unit's share of a weight is the root mean square of its
    slices relative to that of the whole weight; its score is the mean over the weights. This is the group norm of "DepGraph:
    Towards Any Structural Pruning" (Fang et al., 2023), section 3.3, with L2 norms and each weight taken on its own scale.
    """
    shares = []
    for weight, axis, units in parts:
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
        mine = units >= 0
        squares = np.bincount(units[mine], (rows[mine] ** 2).mean(1), minlength=size)
        counts = np.bincount(units[mine], minlength=size)
        norms = np.sqrt(squares / np.maximum(counts, 1))
        shares.append(norms / (norms.mean() or 1.0))
    return np.mean(shares, axis=0) if shares else np.ones(size)
