"""One-pass histogram of an activation whose range is not known beforehand."""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array

BINS = 2048
SAMPLE = 1 << 14  # values binned per batch; minimum and maximum see every value


class Histogram:
    """Counts of values in equal bins over [low, high], which doubles towards any side that a new batch overflows
    (neighbouring bins merge), so memory is constant and no second pass is needed. `minimum` and `maximum` are exact."""

    def __init__(self) -> None:
        self.minimum = np.inf
        self.maximum = -np.inf
        self.counts = np.zeros(BINS)
        self.low = 0.0
        self.high = 0.0

    def add(self, values: Array) -> None:
        """Raises ValueError when a value is not finite."""
        flat = values.reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("not finite")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._cover(low, high)
        if flat.size > SAMPLE:
            # A stride that is odd does not beat with the power-of-two sizes that layers have.
            flat = flat[:: (flat.size // SAMPLE) | 1]
        width = (self.high - self.low) / BINS
        bins = ((flat.astype(np.float32, copy=False) - np.float32(self.low)) * np.float32(1 / width)).astype(np.int32)
        np.clip(bins, 0, BINS - 1, out=bins)
        self.counts += np.bincount(bins, minlength=BINS)

    def _cover(self, low: float, high: float) -> None:
        if self.high == self.low:
            span = max(high - low, 1e-8, 1e-6 * max(abs(low), abs(high)))
            self.low, self.high = low, low + span
            return
        while low < self.low or high > self.high:
            merged = self.counts.reshape(-1, 2).sum(1)
            span = self.high - self.low
            self.counts = np.zeros(BINS)
            if low < self.low:
                self.counts[BINS // 2 :] = merged
                self.low -= span
            else:
                self.counts[: BINS // 2] = merged
                self.high += span

    @property
    def centres(self) -> Array:
        width = (self.high - self.low) / BINS
        return self.low + (np.arange(BINS) + 0.5) * width
