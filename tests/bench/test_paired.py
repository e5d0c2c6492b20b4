"""Quality on the same examples, against naive oracles."""

from math import comb

import numpy as np
import pytest

from modelkit.bench.metric_result import exact_result, fidelity_result, quality_result
from modelkit.bench.metrics.registry import find_metric
from modelkit.bench.paired import by_class, flip_interval, flips, holm, mcnemar, paired_difference

ACCURACY = find_metric("accuracy")


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 5), (3, 9), (9, 3), (20, 21)])
def test_mcnemar_is_the_exact_binomial_test(gained, lost):
    scipy = pytest.importorskip("scipy.stats")
    expected = scipy.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected)


@pytest.mark.parametrize(("p_gain", "p_loss", "n"), [(0.02, 0.05, 200), (0.0, 0.01, 100), (0.001, 0.001, 50)])
def test_flip_intervals_cover(p_gain, p_loss, n):
    """Over every possible outcome, weighted by its probability."""
    cover = 0.0
    for gained in range(min(n, 25)):
        for lost in range(min(n - gained, 35)):
            rest = n - gained - lost
            ways = comb(n, gained) * comb(n - gained, lost)
            probability = ways * p_gain**gained * p_loss**lost * (1 - p_gain - p_loss) ** rest
            low, high = flip_interval(gained, lost, n)
            cover += probability * (low <= p_gain - p_loss <= high)
    assert cover >= 0.94


def test_nothing_flipped_is_not_certainty():
    low, high = flip_interval(0, 0, 100)
    assert low < -0.01 and high > 0.01


def test_pairing_sees_what_two_intervals_do_not():
    rng = np.random.default_rng(0)
    before = (rng.random(1000) < 0.8).astype(float)
    after = before.copy()
    after[np.flatnonzero(before)[:15]] = 0.0
    found = paired_difference(ACCURACY, before, after, rng)
    assert found.difference == pytest.approx(-0.015) and found.ci95[1] < 0 and found.p_value < 1e-3
    single = ACCURACY.interval(before, rng)
    assert single[0] < after.mean()  # within the interval of the first alone
    result = quality_result(ACCURACY, found, 0.01)
    assert result.verdict == "worse" and result.higher_is_better
    assert result.ratio == pytest.approx(after.mean() / before.mean()) and result.ci95[0] < result.ratio < result.ci95[1]


def test_metrics_of_numbers_are_resampled_by_pairs():
    rng = np.random.default_rng(1)
    errors = rng.gamma(2.0, size=300)
    found = paired_difference(find_metric("mse"), errors, errors * 1.05, rng)
    assert found.test == "paired bootstrap" and found.p_value is None
    assert found.ratio_ci95 == pytest.approx((1.05, 1.05))
    result = quality_result(find_metric("mse"), found, 0.01)
    assert result.verdict == "worse" and result.higher_is_better is False


def test_identical_answers_are_the_same():
    hits = (np.random.default_rng(0).random(2000) < 0.9).astype(float)
    found = quality_result(ACCURACY, paired_difference(ACCURACY, hits, hits, np.random.default_rng(0)), 0.01)
    assert (found.verdict, found.difference, found.ratio) == ("same", 0.0, 1.0)


def test_the_class_that_suffers_is_found():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 100)
    before = np.ones(300)
    after = before.copy()
    after[100:120] = 0
    after[rng.integers(200, 300, 2)] = 0
    found = by_class(labels, before, after, ["cat", "dog", "eel"])
    assert [(it["label"], it["n"]) for it in found] == [("cat", 100), ("dog", 100), ("eel", 100)]
    assert found[1]["candidate"] == 0.8 and found[1]["p_value"] < 0.001 and found[2]["p_value"] > 0.05


def test_holm_is_its_definition():
    p = [0.01, 0.04, 0.03, 0.005]
    naive = [max(min(1.0, (4 - k) * q) for k, q in enumerate(sorted(p)) if q <= it) for it in p]
    assert holm(p) == pytest.approx(naive)


def test_flips_are_listed_where_they_stand_in_the_file():
    before, after, labels = np.array([0, 1, 2, 1]), np.array([0, 2, 2, 0]), np.array([0, 1, 1, 0])
    assert flips(before, after, labels, np.array([7, 3, 9, 1]), ["a", "b", "c"]) == [
        {"index": 3, "before": "b", "after": "c", "label": "b"},
        {"index": 1, "before": "b", "after": "a", "label": "a"},
    ]
    assert flips(before, after, None, np.arange(4), None)[0] == {"index": 1, "before": 1, "after": 2, "label": None}


@pytest.mark.parametrize(
    ("name", "value", "ends", "expected"),
    [
        ("agreement", 0.998, (0.995, 1.0), "same"),
        ("agreement", 0.95, (0.93, 0.97), "worse"),
        ("cosine", 0.99, (0.985, 0.995), "inconclusive"),
        ("kl", 0.001, (0.0005, 0.002), "same"),
        ("kl", 0.2, (0.1, 0.3), "worse"),
        ("sqnr", 60.0, (58.0, 62.0), "same"),
        ("sqnr", 20.0, (19.0, 21.0), "worse"),
    ],
)
def test_fidelity_is_judged_by_what_was_lost(name, value, ends, expected):
    assert fidelity_result(find_metric(name), value, ends, 0.01).verdict == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (100, 100, "same"),
        (1000, 1005, "same"),
        (100, 50, "better"),
        (100, 150, "worse"),
        (None, 5, "inconclusive"),
        (0, 0, "same"),
        (0, 5, "worse"),
    ],
)
def test_what_is_counted_needs_no_interval(before, after, expected):
    found = exact_result("bytes", before, after, 0.01)
    assert found.verdict == expected and found.ci95 is None
