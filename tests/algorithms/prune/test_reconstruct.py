"""Least squares against the closed form in float64, and what is seen through a clip."""

import numpy as np
import pytest

from modelkit.algorithms.prune.reconstruct import Fit, constant


def _rows(seed=0, rows=500, inputs=12, outputs=4):
    random = np.random.default_rng(seed)
    X = (random.standard_normal((rows, inputs)) + random.standard_normal(inputs)).astype(np.float32)
    Y = (X @ random.standard_normal((inputs, outputs)) + random.standard_normal((rows, outputs)) + 2).astype(np.float32)
    return X, Y, random.standard_normal((outputs, inputs))


def _oracle(X, Y, W0, ridge):
    """The augmented system: rows (x, 1) → y, and √λ (W − W₀) → 0, with no pull on b."""
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    centred = X - X.mean(0)
    penalty = ridge * np.trace(centred.T @ centred) / X.shape[1]
    left = np.block([[X, np.ones((len(X), 1))], [np.sqrt(penalty) * np.eye(X.shape[1]), np.zeros((X.shape[1], 1))]])
    found = np.linalg.lstsq(left, np.vstack([Y, np.sqrt(penalty) * W0.T]), rcond=None)[0]
    return found[:-1].T, found[-1]


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0])
def test_is_the_closed_form_optimum(ridge):
    X, Y, W0 = _rows()
    W, b = Fit(X, ridge).solve(Y, W0)
    expected, bias = _oracle(X, Y, W0, ridge)
    np.testing.assert_allclose(W, expected, atol=1e-4)
    np.testing.assert_allclose(b, bias, atol=1e-4)


def test_a_large_ridge_keeps_the_old_weight():
    X, Y, W0 = _rows()
    W, b = Fit(X, 1e6).solve(Y, W0)
    np.testing.assert_allclose(W, W0, atol=1e-3)
    np.testing.assert_allclose(b, (Y - X @ W.T).mean(0), atol=1e-3)


def _clip_errors(seed, bounds):
    """By rounds, what the clips of the fit and of the wanted values differ by: the bound on it that is minimised, one by one."""
    X, Y, W0 = _rows(seed)
    Y = Y - 2
    offset = np.random.default_rng(seed).standard_normal(Y.shape).astype(np.float32)
    fit, (low, high) = Fit(X, 0.0), bounds

    def lost(y, p):
        if y <= low:
            return (max(p, low) - low) ** 2
        if y >= high:
            return (min(p, high) - high) ** 2
        return (p - y) ** 2

    def error(rounds):
        W, b = fit.clipped(Y, W0, offset, bounds, rounds)
        predicted = fit.predict(W, b) + offset
        return sum(lost(y, p) for y, p in zip(Y.ravel().tolist(), predicted.ravel().tolist(), strict=True))

    return [error(rounds) for rounds in range(6)]


@pytest.mark.parametrize("bounds", [(0.0, np.inf), (-np.inf, 1.0), (0.0, 2.0)])
def test_rounds_lower_what_is_seen_through_a_clip(bounds):
    """No round makes it worse, and over the seeds they gain more than one per cent."""
    found = [_clip_errors(seed, bounds) for seed in range(10)]
    for errors in found:
        assert all(b <= a * (1 + 1e-5) for a, b in zip(errors, errors[1:], strict=False))
        assert errors[-1] < errors[0]
    assert np.mean([errors[-1] / errors[0] for errors in found]) < 0.99


def test_without_rounds_it_is_the_plain_fit():
    X, Y, W0 = _rows()
    fit = Fit(X, 1e-3)
    for plain, clipped in zip(fit.solve(Y - 1, W0), fit.clipped(Y, W0, 1.0, (0.0, 6.0), rounds=0), strict=True):
        np.testing.assert_array_equal(plain, clipped)


def test_enough_rounds_find_the_best_line_behind_a_clip():
    """One input and no pull: against every slope and offset on a fine grid."""
    random = np.random.default_rng(0)
    x = random.standard_normal(200).astype(np.float32)
    y = (2 * x + 1 + 0.5 * random.standard_normal(200)).astype(np.float32)
    low, high = 0.0, 2.0
    W, b = Fit(x[:, None], 0.0).clipped(y[:, None], np.zeros((1, 1)), 0.0, (low, high), rounds=500)

    def lost(slope, offset):
        p = slope * x + offset
        below, above = np.maximum(p, low) - low, np.minimum(p, high) - high
        return float((np.where(y <= low, below, np.where(y >= high, above, p - y)) ** 2).sum())

    best = min(lost(slope, offset) for slope in np.arange(1, 3, 0.02) for offset in np.arange(0, 2, 0.02))
    assert lost(W[0, 0], b[0]) <= best * (1 + 1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_constant_is_the_mean_or_what_fits_behind_a_clip(sign):
    Y = sign * np.array([[3.0], [1.0], [-10.0]], np.float32)
    bounds = (0.0, np.inf) if sign > 0 else (-np.inf, 0.0)
    assert constant(Y, 0.0, bounds, 0) == pytest.approx([sign * -2.0])
    b = constant(Y, 0.0, bounds, 200)
    # With b ≤ 0 the third row asks for nothing, with b > 0 for 0: the best of (3−b)² + (1−b)² + b² is 4/3.
    assert b == pytest.approx([sign * 4 / 3], abs=1e-3)
