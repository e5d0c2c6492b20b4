"""Intervals that say how far a measured figure can be trusted. Every function takes arrays and a seeded generator.

Latencies of neighbouring runs resemble each other (frequency, cache and scheduler drift slowly), so resampling single runs
would promise far too narrow an interval: whole blocks of neighbouring runs are resampled (circular block bootstrap,
Politis and Romano 1992). The samples of a test set are independent, and are resampled one by one (Efron 1979).
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, sqrt

import numpy as np

from modelkit.core.forms import Array

Interval = tuple[float, float]
RowStatistic = Callable[[Array], Array]  # (resamples, n) → (resamples,)

RESAMPLES = 1000
LEVEL = (2.5, 97.5)  # percentiles that leave 95% between them
CHUNK = 1 << 21  # indices held at once
LONGEST = 8192  # samples beyond which the interval is found from every k-th


def block_interval(samples: Array, statistic: RowStatistic, block: int, rng: np.random.Generator) -> Interval:
    """The 95% interval of a statistic of a series, by circular block bootstrap with blocks of `block` neighbours.

    A series of more than 8192 is thinned first, which costs time and never makes the interval too narrow.
    """
    if samples.size > LONGEST:
        step = ceil(samples.size / LONGEST)
        samples, block = samples[::step], max(1, block // step)
    n = samples.size
    block = min(max(block, 1), n)
    blocks = ceil(n / block)
    found = []
    for rows in _chunks(RESAMPLES, n):
        starts = rng.integers(n, size=(rows, blocks, 1))
        index = ((starts + np.arange(block)) % n).reshape(rows, -1)[:, :n]
        found.append(statistic(samples[index]))
    return _ends(np.concatenate(found))


def median_interval(samples: Array, block: int, rng: np.random.Generator) -> Interval:
    return block_interval(samples, lambda rows: np.asarray(np.median(rows, axis=1)), block, rng)


def mean_interval(samples: Array, block: int, rng: np.random.Generator) -> Interval:
    return block_interval(samples, lambda rows: np.asarray(np.mean(rows, axis=1)), block, rng)


def bootstrap_interval(values: Array, statistic: Callable[[Array], float], rng: np.random.Generator) -> Interval:
    """The 95% interval of a statistic of independent rows `values` (n, …)."""
    n = len(values)
    return _ends(np.array([statistic(values[rng.integers(n, size=n)]) for _ in range(RESAMPLES)]))


def wilson_interval(successes: int, n: int) -> Interval:
    """The 95% interval of a proportion (Wilson 1927), which stays within [0, 1] and is honest near its ends."""
    z = 1.959963984540054
    middle = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * sqrt(successes * (n - successes) / n + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _chunks(total: int, width: int) -> list[int]:
    most = max(1, CHUNK // max(width, 1))
    return [min(most, total - start) for start in range(0, total, most)]


def _ends(estimates: Array) -> Interval:
    low, high = np.percentile(estimates, LEVEL)
    return float(low), float(high)
