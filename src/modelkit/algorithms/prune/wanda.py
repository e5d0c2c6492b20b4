"""Wanda: a weight matters as much as what it usually adds to the output.

Sun, Liu, Bair, Kolter, "A simple and effective pruning approach for large language models", ICLR 2024, eq. 1.
"""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.sparsity import Sparsity

from .masks import largest


def wanda(W: Array, norms: Array, sparsity: Sparsity) -> Array:
    """The mask of `W` (out, in) by S = |W| · ‖x‖, compared within each output. `norms` (in,): of each input over the calibration
    data, up to a common factor."""
    return largest(np.abs(W) * norms, sparsity, per_row=True)
