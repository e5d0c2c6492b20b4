"""Range of an activation: everything that was seen."""

from __future__ import annotations

from .histogram import Histogram


def minmax_range(histogram: Histogram) -> tuple[float, float]:
    return histogram.minimum, histogram.maximum
