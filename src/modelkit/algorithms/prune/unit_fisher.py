"""What the loss says of units, to first order.

Let a gate m = 1 multiply all that reads unit u. Then ∂L/∂m = Σ w · ∂L/∂w over those weights w, and the loss changes by about
½ E[(∂L/∂m)²] when the gate closes, if L is a negative log-likelihood at its minimum (its Hessian is then the Fisher matrix).

Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance estimation for neural network pruning", CVPR 2019, eq. 8; coupled channels
share one gate as in Liu, Zhang, Kuang, et al., "Group Fisher pruning for practical network compression", ICML 2021, eq. 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modelkit.core.channels import Positions
from modelkit.core.forms import Array


class Sensitive(NamedTuple):
    """A weight with the gradient of the loss. units: that each position along `axis` belongs to, or −1."""

    weight: Array
    gradient: Array
    axis: int
    units: Positions


def gate_gradients(parts: Sequence[Sensitive], size: int) -> Array:
    """∂L/∂m (size,) of the gates of a group's units, for one batch: their squares are averaged over batches."""
    total = np.zeros(size)
    for weight, gradient, axis, units in parts:
        products = np.moveaxis(weight * gradient, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
        mine = units >= 0
        total += np.bincount(units[mine], products.sum(1)[mine], minlength=size)
    return total
