"""Ranges of activations against exhaustive search on the raw values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.algorithms.quantize.entropy import entropy_range
from modelkit.algorithms.quantize.histogram import BINS, Histogram
from modelkit.algorithms.quantize.minmax import minmax_range
from modelkit.algorithms.quantize.mse import SquaredError, mse_range
from modelkit.algorithms.quantize.percentile import percentile_range
from modelkit.core.forms import Grid


def histogram_of(*batches):
    histogram = Histogram()
    for batch in batches:
        histogram.add(np.asarray(batch, np.float32))
    return histogram


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), batches=st.integers(1, 5), spread=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_a_histogram_counts_every_value_near_its_place(seed, batches, spread, shift):
    rng = np.random.default_rng(seed)
    data = [(rng.standard_normal(500) * spread * (i + 1) + shift).astype(np.float32) for i in range(batches)]
    histogram = histogram_of(*data)
    values = np.concatenate(data)
    assert histogram.counts.sum() == len(values)
    assert histogram.minimum == values.min() and histogram.maximum == values.max()
    width = (histogram.high - histogram.low) / len(histogram.counts)
    mean = (histogram.counts * histogram.centres).sum() / len(values)
    assert abs(mean - values.mean()) <= width + 1e-4 * abs(values).max()


def test_a_histogram_doubles_only_as_far_as_needed():
    histogram = histogram_of([0, 1], [0, 1.5], [-0.4, 1])
    assert histogram.low <= -0.4 and histogram.high >= 1.5
    assert histogram.high - histogram.low <= 4


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError):
        histogram_of([1.0, np.nan])


def test_minmax_is_what_was_seen():
    assert minmax_range(histogram_of([-3, 1], [0, 7.5])) == (-3, 7.5)


def test_percentile_agrees_with_numpy():
    values = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    low, high = percentile_range(histogram_of(*np.split(values, 5)), 99.0)
    width = (values.max() - values.min()) / 500
    assert abs(low - np.percentile(values, 1)) < width and abs(high - np.percentile(values, 99)) < width


def squared_error(values, low, high):
    return float(((Grid.over(low, high).fake_quantize(values) - values) ** 2).mean())


def test_sums_over_bins_give_the_error_of_every_range():
    histogram = histogram_of(np.maximum(np.random.default_rng(0).standard_t(3, 5_000), -1))
    lows, highs = np.random.default_rng(1).uniform([-9, 0.1], [-0.1, 9], (50, 2)).T
    width = (histogram.high - histogram.low) / BINS
    expected = []
    for low, high in zip(lows, highs, strict=True):
        rounding = ((high - low) / 15) ** 2 / 12
        errors = [
            (low - x) ** 2 if x < low else (x - high) ** 2 if x > high else 0.0 if abs(x) <= width else rounding
            for x in histogram.centres
        ]
        expected.append(float(np.dot(errors, histogram.counts)))
    assert SquaredError(histogram).of(lows, highs, 16) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["normal", "relu", "heavy", "outlier"])
def test_mse_range_is_close_to_the_best_of_an_exhaustive_search(seed, kind):
    rng = np.random.default_rng(seed)
    values = {
        "normal": rng.standard_normal(20_000),
        "relu": np.maximum(rng.standard_normal(20_000), 0),
        "heavy": rng.standard_t(3, 20_000),
        "outlier": np.append(rng.standard_normal(20_000), 30.0),
    }[kind].astype(np.float32)
    low, high = mse_range(histogram_of(values))
    best = min(
        squared_error(values, a * values.min(), b * values.max())
        for a in np.linspace(0.05, 1, 40)
        for b in np.linspace(0.05, 1, 40)
    )
    assert squared_error(values, low, high) <= 1.1 * best
    assert squared_error(values, low, high) <= 1.02 * squared_error(values, values.min(), values.max())


def test_entropy_cuts_a_far_outlier_but_keeps_the_bulk():
    values = np.append(np.random.default_rng(0).standard_normal(100_000), 1000.0).astype(np.float32)
    low, high = entropy_range(histogram_of(values))
    assert high < 500 and low == pytest.approx(values.min())
    low, high = entropy_range(histogram_of(np.random.default_rng(0).uniform(-1, 1, 100_000)))
    assert high > 0.9


def test_constant_activations_have_a_range():
    for method in (minmax_range, percentile_range, mse_range, entropy_range):
        low, high = method(histogram_of(np.zeros(10)))
        assert low <= 0 <= high and np.isfinite([low, high]).all()


@given(low=st.floats(-1e4, 1e4), high=st.floats(-1e4, 1e4), signed=st.booleans())
def test_zero_is_exact_on_every_grid(low, high, signed):
    grid = Grid.over(min(low, high), max(low, high), signed)
    assert grid.low <= grid.zero_point <= grid.high
    assert grid.fake_quantize(np.zeros(1, np.float32))[0] == 0
