"""The test that decides verdicts: against naive oracles, and its errors under noise of many shapes."""

from itertools import product
from math import exp, inf, log

import numpy as np
import pytest

from modelkit.bench.sequential import Estimate, SequentialTest
from modelkit.bench.verdict import decided, detectable, verdict

TOLERANCE = 0.01


def naive_interval(values, alpha):
    """Every shift that the exact signed-rank test, by all 2^n signs, does not reject at `alpha`."""
    scipy = pytest.importorskip("scipy.stats")
    n = len(values)
    total = n * (n + 1) / 2
    sums = [sum(rank for rank, sign in zip(range(1, n + 1), signs, strict=True) if sign) for signs in product((0, 1), repeat=n)]
    extremity = np.minimum(sums, total - np.array(sums))
    kept = []
    for shift in np.linspace(values.min() - 0.01, values.max() + 0.01, 4001):
        moved = values - shift
        ranks = scipy.rankdata(abs(moved))
        seen = ranks[moved > 0].sum()
        if (extremity <= min(seen, total - seen)).mean() > alpha:
            kept.append(shift)
    return min(kept), max(kept)


@pytest.mark.parametrize("n", [8, 11])
def test_a_single_look_is_the_exact_signed_rank_interval(n):
    values = np.random.default_rng(n).standard_t(3, n) * 0.02
    found = SequentialTest(0.04, np.random.default_rng(0)).look(values, 1.0)
    low, high = naive_interval(values, 0.04)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-4)
    assert found.low <= found.value <= found.high


def test_too_few_rounds_say_nothing():
    found = SequentialTest(0.04, np.random.default_rng(0)).look(np.full(5, 0.5), 1.0)
    assert (found.low, found.high) == (-inf, inf) and found.ratio()[1] is None
    assert verdict(found, TOLERANCE, True) == "inconclusive" and detectable(found) is None


def noise(kind, n, rng):
    if kind == "normal":
        return rng.normal(0, 0.012, n)
    if kind == "drift":  # autocorrelated, with the order of each pair drawn at random
        found = np.zeros(n)
        for i in range(1, n):
            found[i] = 0.95 * found[i - 1] + rng.normal(0, 0.006)
        return found * rng.choice([-1, 1], n)
    if kind == "bursts":
        return rng.normal(0, 0.01, n) + (rng.random(n) < 0.2) * rng.normal(0, 0.3, n)
    if kind == "two modes":
        return rng.choice([-0.03, 0.03], n) + rng.normal(0, 0.004, n)
    return 0.006 * rng.standard_cauchy(n)


def run(values, seed):
    """Look after every second round from the sixth on, as `compare` does, until it is decided."""
    test, n = SequentialTest(0.04, np.random.default_rng(seed)), len(values)
    for seen in range(6, n + 1, 2):
        found = test.look(values[:seen], 1.0 if seen + 2 > n else seen / n)
        if decided(found, TOLERANCE):
            break
    return verdict(found, TOLERANCE, True)


@pytest.mark.parametrize("kind", ["normal", "drift", "bursts", "two modes", "cauchy"])
def test_the_same_model_is_seldom_called_different(kind, monkeypatch):
    monkeypatch.setattr("modelkit.bench.sequential.PATHS", 2000)
    wrong = sum(run(noise(kind, 18, np.random.default_rng(seed)), seed) in ("better", "worse") for seed in range(150))
    assert wrong <= 12  # 4% of 150 are 6; 12 or more come by chance once in 50


@pytest.mark.parametrize(("kind", "slower"), [("normal", 1.02), ("drift", 1.02), ("bursts", 1.1), ("cauchy", 1.05)])
def test_a_slower_model_is_seen(kind, slower, monkeypatch):
    monkeypatch.setattr("modelkit.bench.sequential.PATHS", 2000)
    seen = [run(noise(kind, 18, np.random.default_rng(seed)) - log(slower), seed) for seed in range(40)]
    assert seen.count("worse") >= 36 and "better" not in seen


def test_looking_often_spends_no_more_than_once():
    """Without a correction, 18 looks at 5% would be wrong in over 20%."""
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values, test = rng.normal(0, 1, 24), SequentialTest(0.05, rng)
        looks = [test.look(values[:n], n / 24) for n in range(6, 25)]
        wrong += any(it.low > 0 or it.high < 0 for it in looks)
    assert wrong / 200 <= 0.09


@pytest.mark.parametrize(
    ("low", "high", "more", "expected"),
    [
        (0.9995, 1.009, True, "same"),
        (1.001, 1.009, True, "same"),
        (1.005, 1.03, True, "better"),
        (1.005, 1.03, False, "worse"),
        (0.95, 0.999, True, "worse"),
        (0.95, 0.999, False, "better"),
        (0.98, 1.02, True, "inconclusive"),
    ],
)
def test_verdicts(low, high, more, expected):
    assert verdict(Estimate((log(low) + log(high)) / 2, log(low), log(high)), TOLERANCE, more) == expected


def test_what_is_decided_is_the_same_or_beyond_the_tolerance():
    assert decided(Estimate(0, -0.005, 0.005), TOLERANCE)
    assert decided(Estimate(0.05, 0.02, 0.08), TOLERANCE) and decided(Estimate(-0.05, -0.08, -0.02), TOLERANCE)
    assert not decided(Estimate(0.02, 0.005, 0.04), TOLERANCE)  # surely slower, but maybe within the tolerance
    assert not decided(Estimate(0, -0.02, 0.005), TOLERANCE)


def test_the_smallest_difference_that_could_have_been_seen():
    assert detectable(Estimate(0.0, -0.02, 0.03)) == pytest.approx(exp(0.03) - 1)
