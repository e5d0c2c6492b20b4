"""Range of an activation by least loss of information.

S. Migacz, "8-bit inference with TensorRT", GTC 2017: among clipping thresholds take the one whose quantised distribution has
the smallest Kullback-Leibler divergence from the clipped one.
"""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array

from .histogram import BINS, Histogram

LEVELS = 128
STEP = 16


def entropy_range(histogram: Histogram) -> tuple[float, float]:
    """A symmetric threshold t on |x|, cut to what was seen: (max(minimum, −t), min(maximum, t))."""
    magnitude, limit = _magnitudes(histogram)
    best, threshold = np.inf, limit
    for count in range(LEVELS, BINS + 1, STEP):
        divergence = _divergence(magnitude, count)
        if divergence < best:
            best, threshold = divergence, limit * count / BINS
    return max(histogram.minimum, -threshold), min(histogram.maximum, threshold)


def _magnitudes(histogram: Histogram) -> tuple[Array, float]:
    """The histogram of |x| over [0, limit]."""
    limit = max(abs(histogram.minimum), abs(histogram.maximum)) or 1.0
    bins = np.minimum((np.abs(histogram.centres) / limit * BINS).astype(np.int64), BINS - 1)
    return np.bincount(bins, weights=histogram.counts, minlength=BINS), limit


def _divergence(counts: Array, kept: int) -> float:
    reference = counts[:kept].copy()
    seen = reference > 0
    # What is clipped lands in the last bin of the reference, but not in the quantised distribution: clipping costs.
    reference[-1] += counts[kept:].sum()
    level = np.arange(kept) * LEVELS // kept
    mass = np.bincount(level, weights=counts[:kept], minlength=LEVELS)
    members = np.bincount(level, weights=seen, minlength=LEVELS)
    quantised = np.where(seen, (mass / np.maximum(members, 1))[level], 0.0)
    p, q = reference / max(reference.sum(), 1e-12), quantised / max(quantised.sum(), 1e-12)
    at = p > 0
    return float(np.sum(p[at] * np.log(p[at] / np.maximum(q[at], 1e-9))))
