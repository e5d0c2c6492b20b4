"""SmoothQuant against a float64 oracle, and that it helps where it should and keeps out where it can't."""

from __future__ import annotations

import numpy as np
import pytest

from modelkit.algorithms.quantize.round_to_nearest import round_to_nearest
from modelkit.algorithms.quantize.smooth import factor_of_strength, smoothing_factor
from modelkit.core.forms import Grid


def grid_of(x: np.ndarray) -> Grid:
    return Grid.over(x.min(), x.max())


def sample(seed: int, outliers: int, rows: int = 64, features: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features)).astype(np.float32)
    x[:, rng.permutation(features)[:outliers]] *= 100
    return x


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_factor_is_that_of_the_paper(strength: float) -> None:
    rng = np.random.default_rng(3)
    largest, weights = rng.uniform(0.1, 50, 12), [rng.standard_normal((n, 12)) for n in (5, 7)]
    heaviest = [max(abs(weight[i, j]) for weight in weights for i in range(len(weight))) for j in range(12)]
    s = np.array([largest[j] ** strength / heaviest[j] ** (1 - strength) for j in range(12)])
    np.testing.assert_allclose(
        factor_of_strength(largest, weights, strength), np.exp(np.log(s).mean()) / s, rtol=1e-5, err_msg="s⁻¹, scaled as a whole"
    )


def errors(x: np.ndarray, weights: list[np.ndarray], factor: np.ndarray | float) -> float:
    """Mean over rows and layers of the relative squared error of the outputs."""
    found = []
    for weight in weights:
        y = x.astype(np.float64) @ weight.T.astype(np.float64)
        seen = grid_of(x * factor).fake_quantize(x * factor)
        z = seen.astype(np.float64) @ round_to_nearest(weight / factor).decode().T.astype(np.float64)
        found.append((((y - z) ** 2).sum(1) / (y**2).sum(1)).mean())
    return float(np.sum(found))


@pytest.mark.parametrize("seed", range(10))
def test_outliers_are_spread_over_the_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weights = sample(seed, outliers=2), [rng.standard_normal((n, 32)).astype(np.float32) for n in (16, 300)]
    factor = smoothing_factor(x, np.abs(x).max(0), weights, round_to_nearest, grid_of)
    assert factor is not None and factor.shape == (32,)
    assert errors(x, weights, factor) < 0.7 * errors(x, weights, 1.0)


def test_what_needs_no_smoothing_is_left_alone() -> None:
    x = sample(0, outliers=0)
    weight = np.random.default_rng(1).standard_normal((16, 32)).astype(np.float32)
    assert smoothing_factor(x, np.abs(x).max(0), [weight], round_to_nearest, grid_of) is None


def test_features_that_are_always_zero_are_harmless() -> None:
    x = sample(4, outliers=2)
    x[:, :5] = 0
    weight = np.random.default_rng(1).standard_normal((16, 32)).astype(np.float32)
    weight[:, 6] = 0
    factor = smoothing_factor(x, np.abs(x).max(0), [weight], round_to_nearest, grid_of)
    assert factor is not None and np.isfinite(factor).all() and (factor > 0).all()
