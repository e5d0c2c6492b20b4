"""Intervals that say how far a measured figure can be trusted. Every function takes arrays and a seeded generator.

Latencies of neighbouring runs resemble each other (frequency, cache and scheduler drift slowly), so resampling single runs
would promise far too narrow an interval. What is resampled is whole blocks, as they were measured (Carlstein 1986; blocks at
arbitrary offsets would average neighbours and promise too much again). The samples of a test set are independent, and are
resampled one by one (Efron 1979).

Percentiles of few resampled things are too narrow; they are taken further out accordingly (Hesterberg 2015, the expanded
percentile interval).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np

from modelkit.core.forms import Array

Interval = tuple[float, float]

RESAMPLES = 2000
Z = NormalDist().inv_cdf(0.975)
CHUNK = 1 << 21  # values held at once
LONGEST = 8192  # samples beyond which the interval is found from every k-th of each block


def median_interval(blocks: Sequence[Array], rng: np.random.Generator) -> Interval:
    """The 95% interval of the median of all samples, by bootstrap of whole blocks.

    A series of more than 8192 is thinned first, which costs time and never makes the interval too narrow.
    """
    step = ceil(sum(block.size for block in blocks) / LONGEST)
    blocks = [block[::step] for block in blocks]
    samples = np.concatenate(blocks)
    owner = np.repeat(np.arange(len(blocks)), [block.size for block in blocks])
    order = np.argsort(samples, kind="stable")
    samples, owner = samples[order], owner[order]
    found = []
    for drawn in _draws(len(blocks), samples.size, rng):
        rank = drawn[:, owner].cumsum(axis=1)  # how many of the resample are at most this sample
        half = rank[:, -1:] / 2
        lower, upper = (rank >= half).argmax(axis=1), (rank > half).argmax(axis=1)
        found.append((samples[lower] + samples[upper]) / 2)
    return bootstrap_ends(np.concatenate(found), len(blocks))


def mean_interval(blocks: Sequence[Array], rng: np.random.Generator) -> Interval:
    """The 95% interval of the mean of all samples, by bootstrap of whole blocks."""
    sums, sizes = np.array([block.sum() for block in blocks]), np.array([block.size for block in blocks])
    found = [(drawn @ sums) / (drawn @ sizes) for drawn in _draws(len(blocks), len(blocks), rng)]
    return bootstrap_ends(np.concatenate(found), len(blocks))


def bootstrap_interval(values: Array, statistic: Callable[[Array], float], rng: np.random.Generator) -> Interval:
    """The 95% interval of a statistic of independent rows `values` (n, …). A single row gives an interval of no width."""
    n = len(values)
    return bootstrap_ends(np.array([statistic(values[rng.integers(n, size=n)]) for _ in range(RESAMPLES)]), n)


def wilson_interval(successes: int, n: int) -> Interval:
    """The 95% interval of a proportion (Wilson 1927), which stays within [0, 1] and is honest near its ends."""
    middle = (successes + Z * Z / 2) / (n + Z * Z)
    half = Z / (n + Z * Z) * sqrt(successes * (n - successes) / n + Z * Z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def student_quantile(freedom: int, tail: float = 0.025) -> float:
    """The point of Student's t with `freedom` ≥ 1 degrees of freedom that is exceeded with probability `tail`. With t = √ν tan θ
    the density is that of cosᵛ⁻¹ θ."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 40_001)
    density = np.cos(angles) ** (freedom - 1)
    below = np.cumsum(density) - (density + density[0]) / 2  # the trapezoids up to each angle
    return float(np.sqrt(freedom) * np.tan(np.interp((1 - tail) * below[-1], below, angles)))


def _draws(blocks: int, width: int, rng: np.random.Generator) -> list[Array]:
    """How often each block is in each resample, (resamples, blocks), in chunks that keep (resamples, width) small."""
    counts = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=RESAMPLES)
    return np.array_split(counts, ceil(RESAMPLES * width / CHUNK))


def bootstrap_ends(estimates: Array, n: int) -> Interval:
    """The ends of the 95% interval among the estimates from resampling `n` things."""
    tail = NormalDist().cdf(-sqrt(n / (n - 1)) * student_quantile(n - 1)) if n > 1 else 0.025
    low, high = np.quantile(estimates, (tail, 1 - tail))
    return float(low), float(high)
