"""Looking at a comparison again and again without promising too much.

The data are log ratios of two models, one for each round in which both were started afresh and took turns in random order. If
the models are the same, a round's ratio is as likely to be turned round as not, whatever the machine did meanwhile: the signs
are coin flips given the sizes (Fisher 1935). So the signed-rank statistic (Wilcoxon 1945) has a known distribution at every
look, and jointly at all looks, with no assumption about drift, bursts or the shape of the noise. The error allowed is spent
over the looks (Lan and DeMets 1983): the bounds of each are found from random signs that crossed no bound before.

The interval holds every shift that the test does not reject; its middle is the median of the pairwise averages (Hodges and
Lehmann 1963).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf

import numpy as np

from modelkit.core.forms import Array

PATHS = 20_000  # of random signs: the bounds' own error is then below a tenth of what they allow
SHAPE = 1.5  # of the spending: a share t of the time allows t^1.5 of the error


@dataclass(frozen=True)
class Estimate:
    """A log ratio and its interval, infinite while nothing can be said."""

    value: float
    low: float
    high: float

    def ratio(self) -> tuple[float, tuple[float, float] | None]:
        """As ratios; the interval is None where it is infinite."""
        ends = None if self.low == -inf or self.high == inf else (exp(self.low), exp(self.high))
        return exp(self.value), ends

    def widened(self, by: float) -> Estimate:
        return Estimate(self.value, self.low - by, self.high + by)


class SequentialTest:
    """The looks at one growing series. Over all of them the interval misses the truth with a probability of at most `alpha`."""

    def __init__(self, alpha: float, rng: np.random.Generator) -> None:
        self._alpha = alpha
        self._rng = rng
        self._signs = np.zeros((PATHS, 0), np.float32)
        self._inside = np.ones(PATHS, bool)  # paths that crossed no bound at an earlier look

    def look(self, values: Array, time_share: float) -> Estimate:
        """The interval from all `values` so far. `time_share`: how much of the time is over, 1 at the last look."""
        n = len(values)
        fresh = self._rng.integers(0, 2, (PATHS, n - self._signs.shape[1])).astype(np.float32)
        self._signs = np.concatenate([self._signs, fresh], axis=1)
        sums = self._signs @ _ranks(np.abs(values)).astype(np.float32)
        total = n * (n + 1) / 2
        extremity = np.minimum(sums, total - sums)  # 0: all signs are equal
        allowed = int(self._alpha * min(time_share, 1.0) ** SHAPE * PATHS) - int((~self._inside).sum())
        bound = _bound(extremity[self._inside], allowed)
        self._inside &= extremity > bound
        return _estimate(values, bound)


def _bound(extremity: Array, allowed: int) -> int:
    """The largest bound that at most `allowed` of the paths reach, −1 where even the most extreme value is too likely."""
    if allowed < 1:
        return -1
    ordered = np.sort(extremity)
    if allowed >= len(ordered):
        return int(ordered[-1])
    first_outside = ordered[allowed]
    below = ordered[ordered < first_outside]
    return int(below[-1]) if below.size else -1


def _estimate(values: Array, bound: int) -> Estimate:
    i, j = np.triu_indices(len(values))
    averages = np.sort((values[i] + values[j]) / 2)
    middle = float(np.median(averages))
    last = len(averages) - 1 - bound
    if bound < 0 or bound > last:
        return Estimate(middle, -inf, inf)
    return Estimate(middle, float(averages[bound]), float(averages[last]))


def _ranks(sizes: Array) -> Array:
    """Ranks from 1; equal values share their mean rank."""
    _, which, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which])
