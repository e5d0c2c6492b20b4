"""The affine map per channel that gives a value the mean, and the variance, that it had.

What batch norms do when their statistics are estimated anew on the pruned network (Li, Wu, Su, Wang, "EagleEye: Fast sub-net
evaluation for efficient neural network pruning", ECCV 2020, section 3.3), also for those that were folded into their layers.
"""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array

_DEAD = 1e-4  # of the standard deviation: a channel with less left has nothing to scale up


def restoring(before: Array, after: Array, spread: bool) -> tuple[Array, Array]:
    """(factor, shift), (channels,) float64: factor · after + shift has the mean of `before`, with `spread` also its variance.

    before, after: (rows, channels), not of the same number of rows necessarily."""
    mean, now = before.mean(0, dtype=np.float64), after.mean(0, dtype=np.float64)
    factor = np.ones(len(mean))
    if spread:
        wanted, found = before.std(0, dtype=np.float64), after.std(0, dtype=np.float64)
        alive = found > _DEAD * wanted
        factor[alive] = wanted[alive] / np.maximum(found[alive], np.finfo(np.float64).tiny)
    return factor, mean - factor * now
