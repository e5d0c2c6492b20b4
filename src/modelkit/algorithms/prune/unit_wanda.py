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

from .unit_norms import shares


class Reading(NamedTuple):
    """A weight that reads the units. axis: of `weight`, the inputs. units: that each position along it belongs to, or −1.
    energy: the mean square (or variance) of the input at each position."""

    weight: Array
    axis: int
    units: Positions
    energy: Array


def unit_wanda(readings: Sequence[Reading], size: int) -> Array:
    """Scores (size,) of a group's units that compare across groups: (‖W_j‖ · ‖x_j‖)² summed over a unit's inputs j, as the share
    of all units, and summed over the weights. It estimates the relative squared errors of what they compute. 1 for all without
    weights."""
    total = np.zeros(size)
    for weight, axis, units, energy in readings:
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
        mine = units >= 0
        total += shares(np.bincount(units[mine], ((rows**2).sum(1) * energy)[mine], minlength=size))
    return total if readings else np.ones(size)
