"""The affine map per channel that gives a value the mean and the variance that it had.

What batch norms do when their statistics are estimated anew on the pruned network (Li, Wu, Su, Wang, "EagleEye: Fast sub-net
evaluation for efficient neural network pruning", ECCV 2020, section 3.3), for layers that have none too.
"""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array

_DEAD = 1e-4  # of the standard deviation: a channel with less left has nothing to scale up


def restoring(before: Array, after: Array) -> tuple[Array, Array]:
    """(factor, shift), (channels,) float64: factor · after + shift has the mean and the variance of `before`.

    before, after: (rows, channels). The factor is 1 where `after` hardly varies."""
    mean, now = before.mean(0, dtype=np.float64), after.mean(0, dtype=np.float64)
    wanted, found = before.std(0, dtype=np.float64), after.std(0, dtype=np.float64)
    alive = found > _DEAD * wanted
    factor = np.where(alive, wanted / np.where(alive, found, 1.0), 1.0)
    return factor, mean - factor * now
