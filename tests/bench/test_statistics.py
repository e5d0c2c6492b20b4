from math import comb

import numpy as np
import pytest

from modelkit.bench.statistics import (
    LONGEST,
    bootstrap_interval,
    mean_interval,
    median_interval,
    student_quantile,
    wilson_interval,
)

INTERVALS = [(median_interval, np.median), (mean_interval, np.mean)]


def naive_block_bootstrap(blocks, statistic, rng, resamples):
    """One resample at a time, one block at a time; the same percentiles as scipy's t asks for."""
    from scipy.stats import norm, t

    n = len(blocks)
    found = []
    for _ in range(resamples):
        series = []
        for _ in range(n):
            series += list(blocks[int(rng.integers(n))])
        found.append(statistic(series))
    tail = 100 * norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
    return np.percentile(found, tail), np.percentile(found, 100 - tail)


@pytest.mark.parametrize("sizes", [[1] * 40, [7] * 20, [1, 5, 2, 9, 4, 4, 8, 3, 6, 2, 7, 5]])
@pytest.mark.parametrize(("interval", "statistic"), INTERVALS)
def test_block_intervals_match_the_naive_bootstrap(sizes, interval, statistic):
    rng = np.random.default_rng(0)
    blocks = [1 + 0.3 * rng.random() + rng.gamma(2.0, size=size) for size in sizes]
    expected = naive_block_bootstrap(blocks, statistic, np.random.default_rng(1), 4000)
    found = interval(blocks, np.random.default_rng(2))
    spread = expected[1] - expected[0]
    assert found == pytest.approx(expected, abs=0.1 * spread)


@pytest.mark.parametrize(("interval", "statistic"), INTERVALS)
def test_every_resample_is_the_statistic_of_whole_blocks(interval, statistic, monkeypatch):
    """With every block drawn exactly once, the interval is the statistic itself, odd or even in number."""
    for sizes in ([3, 4], [5, 1, 2], [2, 2, 2, 2]):
        blocks = [np.random.default_rng(size).random(size) for size in sizes]
        once = [np.ones((2, len(blocks)), int)]
        monkeypatch.setattr("modelkit.bench.statistics._draws", lambda *_, once=once: once)
        assert interval(blocks, None) == pytest.approx([statistic(np.concatenate(blocks))] * 2)


def test_the_same_seed_gives_the_same_interval():
    blocks = list(np.random.default_rng(0).gamma(2.0, size=(20, 15)))
    assert median_interval(blocks, np.random.default_rng(5)) == median_interval(blocks, np.random.default_rng(5))


def test_drift_widens_the_interval():
    """Blocks that each have their own level: resampling single runs promises far too much."""
    rng = np.random.default_rng(0)
    blocks = list(10 + rng.standard_normal((20, 1)) + 0.01 * rng.standard_normal((20, 50)))
    single = median_interval(np.concatenate(blocks)[:, None], np.random.default_rng(1))
    whole = median_interval(blocks, np.random.default_rng(1))
    assert whole[1] - whole[0] > 3 * (single[1] - single[0])


@pytest.mark.parametrize("count", [5, 20])
@pytest.mark.parametrize(("interval", "statistic"), INTERVALS)
def test_coverage_under_drift_from_block_to_block(count, interval, statistic):
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        low, high = interval(list(5 + 0.1 * rng.standard_normal((count, 1)) + 0.1 * rng.standard_normal((count, 10))), rng)
        hits += low <= 5 <= high
    assert hits / 200 >= 0.91


def test_long_series_are_thinned_and_stay_honest():
    rng = np.random.default_rng(0)
    blocks = list(rng.gamma(2.0, size=(20, LONGEST)))
    low, high = median_interval(blocks, rng)
    assert low < np.median(blocks) < high
    assert high - low < 0.2


@pytest.mark.parametrize("interval", [median_interval, mean_interval])
def test_extreme_series(interval):
    rng = np.random.default_rng(0)
    assert interval([np.array([3.0])], rng) == (3.0, 3.0)
    assert interval([np.full(10, 2.0)] * 4, rng) == (2.0, 2.0)


@pytest.mark.parametrize("tail", [0.025, 0.0015])
@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 19, 1000])
def test_student_quantile(freedom, tail):
    from scipy.stats import t

    assert student_quantile(freedom, tail) == pytest.approx(t.ppf(1 - tail, freedom), rel=0.01)


def naive_wilson(successes, n):
    """Proportions that a normal test at 5% does not reject, found by scanning."""
    p = np.linspace(0, 1, 200_001)
    held = np.abs(successes / n - p) <= 1.959963984540054 * np.sqrt(p * (1 - p) / n)
    return p[held].min(), p[held].max()


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (912, 1000), (1, 1)])
def test_wilson_matches_the_test_it_inverts(successes, n):
    assert wilson_interval(successes, n) == pytest.approx(naive_wilson(successes, n), abs=1e-5)


def test_wilson_covers_in_all_but_five_percent():
    n, p = 50, 0.9
    cover = 0.0
    for k in range(n + 1):
        low, high = wilson_interval(k, n)
        cover += comb(n, k) * p**k * (1 - p) ** (n - k) * (low <= p <= high)
    assert 0.93 < cover < 0.98


def test_bootstrap_of_a_mean_is_close_to_theory():
    values = np.random.default_rng(0).standard_normal(400)
    low, high = bootstrap_interval(values, lambda rows: float(rows.mean()), np.random.default_rng(1))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)
