"""The magnitude of units: how large the weights are that write and read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit.core.channels import Positions
from modelkit.core.forms import Array


def unit_norms(parts: Sequence[tuple[Array, int, Positions]], size: int) -> Array:
    """Scores (size,) of a group's units that compare across groups: each weight's squares, of which a unit has a share, sum to 1.

    parts: (weight, axis, unit of each position along the axis, or −1). A unit's score is the sum of its shares over the weights:
    the group norm of "DepGraph: Towards Any Structural Pruning" (Fang et al., 2023), section 3.3, with each weight taken on
    its own scale. 1 for all without weights.
    """
    total = np.zeros(size)
    for weight, axis, units in parts:
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
        mine = units >= 0
        total += shares(np.bincount(units[mine], (rows[mine] ** 2).sum(1), minlength=size))
    return total if parts else np.ones(size)


def shares(amounts: Array) -> Array:
    """Of their sum; 0 where that is 0."""
    whole = float(amounts.sum())
    return amounts / whole if whole > 0 else np.zeros(len(amounts))
