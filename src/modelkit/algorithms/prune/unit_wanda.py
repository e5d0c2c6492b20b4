"""Wanda for units: one matters as much as what it usually adds to the outputs of the layers that read it.

Sun, Liu, Bair, Kolter, "A simple and effective pruning approach for large language models", ICLR 2024, eq. 1, summed over the
weights of a channel as in An, Zhao, Yu, Tang, Wang, "Fluctuation-based adaptive structured pruning for large language models",
AAAI 2024, eq. 5: where the mean is kept as a bias, only what varies about it is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modelkit.core.channels import Positions
from modelkit.core.forms import Array


class Reading(NamedTuple):
    """A weight that reads the units. axis: of `weight`, the inputs. units: that each position along it belongs to, or −1.
    energy: the mean square (or variance) of the input at each position."""

    weight: Array
    axis: int
    units: Positions
    energy: Array


def unit_wanda(readings: Sequence[Reading], size: int) -> Array:
    """Scores (size,) of a group's units, of mean 1, so that they compare across groups.

    Of one weight the score is √ Σ ‖W_j‖² E[x_j²] over the unit's inputs j, relative to the mean over the units; with several
    weights the squares are averaged. 1 for all where nothing reads them."""
    total = np.zeros(size)
    for weight, axis, units, energy in readings:
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
        mine = units >= 0
        added = np.bincount(units[mine], ((rows**2).sum(1) * energy)[mine], minlength=size)
        total += added / max(added.mean(), np.finfo(np.float64).tiny)
    scores = np.sqrt(total)
    mean = float(scores.mean())
    return scores / mean if mean > 0 else np.ones(size)
