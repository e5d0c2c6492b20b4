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
    shrink = np.linspace(1.0, 0.05, CANDIDATES)
    low, high = _best(histogram, minimum * shrink, maximum * shrink, levels)
    for _ in range(2):
        if minimum < 0:
            low, high = _best(histogram, np.append(minimum * shrink, low), np.full(CANDIDATES + 1, high), levels)
        if maximum > 0:
            low, high = _best(histogram, np.full(CANDIDATES + 1, low), np.append(maximum * shrink, high), levels)
    return low, high


def _best(histogram: Histogram, lows: Array, highs: Array, levels: int) -> tuple[float, float]:
    """Expected squared error of each candidate range: outside, the distance to the range; inside, that of uniform rounding
    (step²/12), with the bin's own width for values spread over a bin."""
    x, weight = histogram.centres, histogram.counts
    at = weight > 0
    x, weight = x[at], weight[at]
    width = (histogram.high - histogram.low) / BINS
    step = ((highs - lows) / (levels - 1))[:, None]
    outside = np.maximum(lows[:, None] - x, 0) + np.maximum(x - highs[:, None], 0)
    # An exact 0 (behind a ReLU) has no rounding error: values of the bin holding 0 are not charged for it.
    rounding = np.where(np.abs(x) <= width, 0.0, 1.0) * step**2 / 12
    error = ((outside**2 + np.where(outside > 0, 0.0, rounding)) * weight).sum(1)
    chosen = int(np.argmin(error))
    return float(lows[chosen]), float(highs[chosen])
