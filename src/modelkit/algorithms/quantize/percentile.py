"""Range of an activation: all but a given share of the values, cut at each end."""

from __future__ import annotations

import numpy as np

from .histogram import BINS, Histogram


def percentile_range(histogram: Histogram, percentile: float = 99.99) -> tuple[float, float]:
    """The values below and above which (100 − percentile)% of the values lie, to within a bin."""
    cumulative = np.concatenate([[0.0], np.cumsum(histogram.counts)])
    cumulative /= cumulative[-1]
    borders = np.linspace(histogram.low, histogram.high, BINS + 1)
    tail = 1 - percentile / 100
    # At flat stretches the last border of equal mass is meant from below, the first from above.
    low = borders[max(int(np.searchsorted(cumulative, tail, side="right")) - 1, 0)]
    high = borders[min(int(np.searchsorted(cumulative, 1 - tail, side="left")), BINS)]
    return max(float(low), histogram.minimum), min(float(high), histogram.maximum)
