"""Least squares refit of a layer: the original's output from the inputs that the compressed model gives.

W, b minimise Σ ‖W x + b − y‖² + λ ‖W − W₀‖² over pairs of an input row x of the compressed model and an output row y of the
original (He et al. 2017, https://arxiv.org/abs/1707.06168, eq. 2; the pull towards W₀ keeps few data from being overfitted).

Where a clip to [l, u] follows (a rectifier: l = 0, u = ∞), it is not seen how far y lies beyond a bound, and only W x + b short
of that bound is wrong there. Replacing y ≤ l by min(W x + b, l) and y ≥ u by max(W x + b, u), and fitting again, never raises
the error that is bounded in this way (majorisation; the setting is that of Zhang et al. 2015, https://arxiv.org/abs/1505.06798,
section 3.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelkit.core.forms import Array

Bounds = tuple[float, float]  # low, high


class Fit:
    """Fits of one matrix of input rows, X (rows, inputs) float32, to different outputs.

    ridge: λ as a share of the mean diagonal of `H`, the inputs' second moments about their `mean`, float64."""

    def __init__(self, X: Array, ridge: float) -> None:
        self.mean, self._X, self.H = moments(X)
        self.penalty = _penalty(self.H, ridge)
        self._inverse = np.linalg.inv(_regular(self.H, self.penalty))

    def solve(self, Y: Array, W0: Array) -> tuple[Array, Array]:
        """W (outputs, inputs) and b (outputs,), float64, for outputs Y (rows, outputs)."""
        mean = Y.mean(0, dtype=np.float64)
        G = (self._X.T @ (Y - mean.astype(np.float32))).astype(np.float64) + self.penalty * W0.T
        W: Array = (self._inverse @ G).T
        return W, mean - W @ self.mean

    def predict(self, W: Array, b: Array) -> Array:
        """The outputs (rows, outputs), float32."""
        predicted: Array = self._X @ W.T.astype(np.float32) + (b + W @ self.mean).astype(np.float32)
        return predicted

    def clipped(self, Y: Array, W0: Array, offset: Array | float, bounds: Bounds, rounds: int) -> tuple[Array, Array]:
        """Like `solve`, for what is seen of `offset` + W x + b beside Y through a clip to `bounds`."""
        W, b = self.solve(Y - offset, W0)
        for _ in range(rounds):
            W, b = self.solve(_target(Y, self.predict(W, b) + offset, bounds) - offset, W0)
        return W, b


def constant(Y: Array, offset: Array | float, bounds: Bounds, rounds: int) -> Array:
    """b alone (outputs,): the mean of Y − offset, or with `rounds` > 0 what fits best behind a clip to `bounds`."""
    b: Array = (Y - offset).mean(0, dtype=np.float64)
    for _ in range(rounds):
        b = (_target(Y, b.astype(np.float32) + offset, bounds) - offset).mean(0, dtype=np.float64)
    return b


def moments(X: Array) -> tuple[Array, Array, Array]:
    """The mean (inputs,) of the rows, the rows about it, and the sum of their squares (inputs, inputs); the rows are float32."""
    mean = X.mean(0, dtype=np.float64)
    centred = X - mean.astype(np.float32)
    return mean, centred, (centred.T @ centred).astype(np.float64)


def without_inputs(H: Array, W: Array, kept: NDArray[np.bool_], ridge: float) -> Array:
    """W (outputs, inputs) with the inputs that are not kept at 0, the others refitted to the layer's own output. H: the second
    moments of its inputs about their mean."""
    penalty = _penalty(H, ridge)
    found = np.zeros(W.shape)
    if kept.any():
        G = H[kept] @ W.T + penalty * W[:, kept].T
        found[:, kept] = np.linalg.solve(_regular(H[np.ix_(kept, kept)], penalty), G).T
    return found


def _target(Y: Array, predicted: Array, bounds: Bounds) -> Array:
    low, high = bounds
    return np.where(Y <= low, np.minimum(predicted, low), np.where(Y >= high, np.maximum(predicted, high), Y))


def _penalty(H: Array, ridge: float) -> float:
    return ridge * max(float(np.trace(H)) / len(H), 1e-12)


def _regular(H: Array, penalty: float) -> Array:
    regular = H.copy()
    regular.flat[:: len(H) + 1] += penalty
    return regular
