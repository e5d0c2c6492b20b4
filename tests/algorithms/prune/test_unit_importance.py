"""Importance of units against what it estimates, computed directly."""

import numpy as np
import pytest

from modelkit.algorithms.prune.restore import restoring
from modelkit.algorithms.prune.unit_fisher import Sensitive, gate_gradients
from modelkit.algorithms.prune.unit_wanda import Reading, unit_wanda


def test_wanda_is_the_share_of_the_output_that_a_unit_adds():
    """For inputs that are independent, ‖W_j‖² E[x_j²] is what input j adds to the squared output."""
    rng = np.random.default_rng(0)
    W, X = rng.standard_normal((5, 6)), rng.standard_normal((4000, 6)) * np.arange(1, 7)
    units = np.array([0, 0, 1, 2, -1, 2])
    found = unit_wanda([Reading(W, 1, units, (X**2).mean(0))], 3)
    added = [sum(((X[:, [j]] * W[:, j]) ** 2).sum() for j in np.flatnonzero(units == unit)) for unit in range(3)]
    np.testing.assert_allclose(found, np.array(added) / sum(added), rtol=1e-9)


def test_gate_gradients_are_derivatives_by_a_factor_on_the_unit():
    rng = np.random.default_rng(0)
    W, X, Y = rng.standard_normal((3, 4)), rng.standard_normal((20, 4)), rng.standard_normal((20, 3))
    units = np.array([0, 1, 1, -1])

    def loss(gates):
        scale = np.array([gates[u] if u >= 0 else 1.0 for u in units])
        return 0.5 * ((X @ (W * scale).T - Y) ** 2).sum()

    gradient = (X @ W.T - Y).T @ X
    found = gate_gradients([Sensitive(W, gradient, 1, units)], 2)
    for unit in range(2):
        step = np.eye(2)[unit] * 1e-5
        assert found[unit] == pytest.approx((loss(1 + step) - loss(1 - step)) / 2e-5, rel=1e-5)


def test_restoring_gives_the_mean_and_the_variance_back():
    rng = np.random.default_rng(0)
    before, after = rng.standard_normal((500, 3)) * [1, 2, 3] + 5, rng.standard_normal((500, 3)) * 0.5
    after[:, 2] = 1.0  # dead: there is nothing to scale
    factor, shift = restoring(before, after)
    now = factor * after + shift
    np.testing.assert_allclose(now.mean(0), before.mean(0))
    np.testing.assert_allclose(now.std(0)[:2], before.std(0)[:2])
    assert factor[2] == 1
