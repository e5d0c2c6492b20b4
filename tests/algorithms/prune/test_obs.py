"""Structured OBS against a least squares fit for every set of units that is left."""

import numpy as np
import pytest

from modelkit.algorithms.prune.obs import Reader, removal_order
from modelkit.algorithms.prune.reconstruct import without_inputs


def _case(seed, units=7, block=3, outputs=5, rows=400):
    random = np.random.default_rng(seed)
    X = random.standard_normal((rows, units * block)) @ random.standard_normal((units * block, units * block))
    X -= X.mean(0)
    W = random.standard_normal((outputs, units * block)) * random.uniform(0.1, 2, (1, units * block))
    return X, W, np.tile(np.arange(units), block)


def _least_error(X, W, kept):
    """min over V of ‖X Wᵀ − X_kept Vᵀ‖², by numpy's solver."""
    Y = X @ W.T
    V = np.linalg.lstsq(X[:, kept], Y, rcond=None)[0]
    return float(np.sum((Y - X[:, kept] @ V) ** 2))


@pytest.mark.parametrize("seed", range(10))
def test_each_step_takes_the_unit_whose_loss_least_squares_mends_best(seed):
    X, W, units = _case(seed)
    removal = removal_order([Reader(X.T @ X, W, units)], 7, ridge=1e-12)
    gone = []
    for step, unit in enumerate(removal.order[:-1]):
        options = {u: _least_error(X, W, ~np.isin(units, [*gone, u])) for u in range(7) if u not in gone}
        assert unit == min(options, key=options.__getitem__)
        gone.append(int(unit))
        assert removal.errors[step + 1] == pytest.approx(options[int(unit)], rel=1e-5)
    assert removal.errors[-1] == pytest.approx(np.sum((X @ W.T) ** 2), rel=1e-5)
    assert sorted(removal.order) == list(range(7))


def test_two_readers_are_weighed():
    X, W, units = _case(0)
    other, V, _ = _case(1)
    one = removal_order([Reader(X.T @ X, W, units), Reader(other.T @ other, V, units, 0.0)], 7)
    alone = removal_order([Reader(X.T @ X, W, units)], 7)
    assert list(one.order) == list(alone.order)
    both = removal_order([Reader(X.T @ X, W, units, 0.5), Reader(other.T @ other, V, units, 2.0)], 7, ridge=1e-12)
    first = [0.5 * _least_error(X, W, units != u) + 2.0 * _least_error(other, V, units != u) for u in range(7)]
    assert both.order[0] == int(np.argmin(first))
    assert both.errors[1] == pytest.approx(min(first), rel=1e-5)


def test_units_of_no_input_go_first_and_cost_nothing():
    X, W, units = _case(2)
    removal = removal_order([Reader(X.T @ X, W, np.where(units == 4, -1, units))], 7)
    assert removal.order[0] == 4
    assert removal.errors[1] == 0


def test_many_at_once_is_exact_for_the_set_it_takes():
    X, W, units = _case(3)
    removal = removal_order([Reader(X.T @ X, W, units)], 7, ridge=1e-12, at_once=0.5)
    kept = ~np.isin(units, removal.order[:3])
    assert removal.errors[3] == pytest.approx(_least_error(X, W, kept), rel=1e-5)


def test_far_below_magnitude_at_the_same_count():
    """One step is never worse; a greedy sequence may be on some weights, but not on the whole."""
    ratios = []
    for seed in range(20):
        X, W, units = _case(seed, units=12, block=2)
        removal = removal_order([Reader(X.T @ X, W, units)], 12, ridge=1e-9)
        norms = np.bincount(units, (W**2).sum(0))
        for count in (1, 3, 6, 9):
            obs = ~np.isin(units, removal.order[:count])
            magnitude = ~np.isin(units, np.argsort(norms)[:count])
            ratio = _least_error(X, W, obs) / _least_error(X, W, magnitude)
            assert count > 1 or ratio <= 1 + 1e-9
            ratios.append(ratio)
    assert np.exp(np.mean(np.log(ratios))) < 0.9


def test_the_refit_without_inputs_is_that_of_the_least_error():
    X, W, units = _case(5)
    kept = units != 2
    found = without_inputs(X.T @ X, W, kept, ridge=1e-12)
    assert not found[:, ~kept].any()
    assert np.sum((X @ (W - found).T) ** 2) == pytest.approx(_least_error(X, W, kept), rel=1e-6)
