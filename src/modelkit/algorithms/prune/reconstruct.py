"""Least squares refit of a layer: the original's output from the inputs that the compressed model gives.

W, b minimise Σ ‖W x + b − y‖² + λ ‖W − W₀‖² over pairs of an input row x of the compressed model and an output row y of the
original (He et al. 2017, https://arxiv.org/abs/1707.06168, eq. 2; the pull towards W₀ keeps few data from being overfitted).

Where a rectifier follows, y < 0 is never seen, and only W x + b > 0 is wrong there. Replacing y ≤ 0 by min(W x + b, 0) and fitting
again never raises the error that is bounded in this way (majorisation; the setting is that of Zhang et al. 2015,
https://arxiv.org/abs/1505.06798, section 3.2).
"""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array


class Fit:
    """Fits of one matrix of input rows, X (rows, inputs), to different outputs. ridge: λ as a share of the mean diagonal of the
    inputs' second moments (about their mean)."""

    def __init__(self, X: Array, ridge: float) -> None:
        self.mean = X.mean(0, dtype=np.float64)
        self.X = (X - self.mean.astype(np.float32)).astype(np.float32, copy=False)
        H = (self.X.T @ self.X).astype(np.float64)
        self.H = H
        self.penalty = ridge * max(float(np.trace(H)) / len(H), 1e-12)
        regular = H.copy()
        regular.flat[:: len(H) + 1] += self.penalty
        self._inverse = np.linalg.inv(regular)

    def solve(self, Y: Array, W0: Array) -> tuple[Array, Array]:
        """W (outputs, inputs) and b (outputs,), float64, for outputs Y (rows, outputs)."""
        mean = Y.mean(0, dtype=np.float64)
        G = (self.X.T @ (Y - mean.astype(np.float32))).astype(np.float64) + self.penalty * W0.T
        W: Array = (self._inverse @ G).T
        return W, mean - W @ self.mean

    def predict(self, W: Array, b: Array) -> Array:
        """The outputs (rows, outputs), float32."""
        return self.X @ W.T.astype(np.float32) + (b + W @ self.mean).astype(np.float32)

    def rectified(self, Y: Array, W0: Array, offset: Array | float = 0.0, rounds: int = 3) -> tuple[Array, Array]:
        """Like `solve`, for what is seen of `offset` + W x + b beside Y through a rectifier."""
        W, b = self.solve(Y - offset, W0)
        for _ in range(rounds):
            seen = np.where(Y > 0, Y, np.minimum(self.predict(W, b) + offset, 0))
            W, b = self.solve(seen - offset, W0)
        return W, b
