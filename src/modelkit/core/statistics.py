"""What calibration gathers about the inputs of a layer."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .forms import Array

Needs = Literal["nothing", "norms", "gram"]


class InputMoments:
    """Second moments of a layer's inputs, over rows that come batch by batch.

    A row is what one output position is computed from; grouped convolutions have independent ones for each group.
    gram: (groups, inputs, inputs), the mean of x xᵀ; None unless asked for. norms: (groups, inputs), the root of the mean of x².
    """

    def __init__(self, full: bool) -> None:
        self.count = 0
        self._full = full
        self._sum: Array | None = None

    def add(self, rows: Array) -> None:
        """`rows`: (groups, n, inputs). Raises ValueError for values that are not finite."""
        rows = rows.astype(np.float32, copy=False)
        added = rows.transpose(0, 2, 1) @ rows if self._full else np.einsum("gnd,gnd->gd", rows, rows)
        if not np.isfinite(added).all():
            raise ValueError("not finite")
        self._sum = added if self._sum is None else self._sum + added
        self.count += rows.shape[1]

    @property
    def gram(self) -> Array | None:
        return self._mean() if self._full else None

    @property
    def norms(self) -> Array:
        mean = self._mean()
        norms: Array = np.sqrt(np.diagonal(mean, axis1=1, axis2=2) if self._full else mean)
        return norms

    def _mean(self) -> Array:
        if self._sum is None:
            raise ValueError("no rows were seen")
        mean: Array = self._sum / np.float32(self.count)
        return mean
