"""Range of an activation by least squared error of the quantised values.

R. Banner et al., "Post training 4-bit quantization of convolutional networks", NeurIPS 2019 (the trade of clipping against
rounding error); here minimised over the histogram itself instead of a fitted density.
"""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array

from .histogram import BINS, Histogram

CANDIDATES = 64


def mse_range(histogram: Histogram, levels: int = 256) -> tuple[float, float]:
    """The (low, high) of an asymmetric grid of `levels` values with the least mean squared error.

    Both ends are first shrunk together, then each alone with the other held (the error is near convex in each)."""
    minimum, maximum = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    if minimum == maximum:
        return minimum, maximum
    error = SquaredError(histogram)
    shrink = np.linspace(1.0, 0.05, CANDIDATES)
    low, high = _best(error, minimum * shrink, maximum * shrink, levels)
    for _ in range(2):
        if minimum < 0:
            low, high = _best(error, np.append(minimum * shrink, low), np.full(CANDIDATES + 1, high), levels)
        if maximum > 0:
            low, high = _best(error, np.full(CANDIDATES + 1, low), np.append(maximum * shrink, high), levels)
    return low, high


def _best(error: SquaredError, lows: Array, highs: Array, levels: int) -> tuple[float, float]:
    chosen = int(np.argmin(error.of(lows, highs, levels)))
    return float(lows[chosen]), float(highs[chosen])


class SquaredError:
    """Squared error of a histogram's values on a grid, from sums over the bins below each: outside of the grid's range, the
    distance to it; inside, that of uniform rounding (step²/12)."""

    def __init__(self, histogram: Histogram) -> None:
        at = histogram.counts > 0
        self._x, weight = histogram.centres[at], histogram.counts[at]
        # An exact 0 (behind a ReLU) has no rounding error: values of the bin holding 0 are not charged for it.
        width = (histogram.high - histogram.low) / BINS
        rounded = np.where(np.abs(self._x) <= width, 0.0, weight)
        moments = np.stack([weight, weight * self._x, weight * self._x**2, rounded])
        self._below = np.concatenate([np.zeros((4, 1)), moments.cumsum(1)], 1)

    def of(self, lows: Array, highs: Array, levels: int) -> Array:
        """For each of the ranges (candidates,)."""
        under = self._below[:, np.searchsorted(self._x, lows, "left")]
        upto = self._below[:, np.searchsorted(self._x, highs, "right")]
        over = self._below[:, -1:] - upto
        step = (highs - lows) / (levels - 1)
        error: Array = _distance(under, lows) + _distance(over, highs) + (upto[3] - under[3]) * step**2 / 12
        return error


def _distance(moments: Array, to: Array) -> Array:
    """Σ w (x − to)² from Σ w, Σ w x and Σ w x²."""
    distance: Array = moments[2] - 2 * to * moments[1] + to**2 * moments[0]
    return distance
