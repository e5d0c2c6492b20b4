"""SparseGPT against a naive oracle in float64: the paper's steps with every inverse computed from scratch."""

import numpy as np
import pytest

from modelkit.algorithms.prune.masks import largest
from modelkit.algorithms.prune.sparsegpt import inverse_cholesky, sparsegpt
from modelkit.core.sparsity import Sparsity

PATTERNS = [(0.5, "unstructured"), (0.8, "unstructured"), (0.5, "2:4"), (0.75, "1:4"), (0.5, "4:8")]


def correlated(rows, columns, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns // 2 + 1)) @ rng.standard_normal((columns // 2 + 1, columns))
    return X + 0.3 * rng.standard_normal((rows, columns)) * rng.random(columns)


def oracle(W, H, sparsity, block, damp):
    """Columns from left to right; the inverse is that of the columns not yet done (eq. 3 and 4), and the mask of the next
    columns is chosen when the first of them is reached, by w² / [H⁻¹]_jj (eq. 5)."""
    W, H = W.astype(np.float64).copy(), H.astype(np.float64)
    H = H + damp * np.diag(H).mean() * np.eye(len(H))
    inverses = [np.linalg.inv(H[j:, j:]) for j in range(len(H))]
    step = sparsity.of or block
    mask = np.ones(W.shape, bool)
    for j in range(W.shape[1]):
        if j % step == 0:
            ahead = range(j, min(j + step, W.shape[1]))
            scores = np.stack([W[:, k] ** 2 / inverses[k][0, 0] for k in ahead], 1)
            if sparsity.of:
                order = np.argsort(scores, 1)[:, : sparsity.of - sparsity.kept]
                for i, gone in enumerate(order):
                    mask[i, j + gone] = False
            else:
                count = round(sparsity.share * scores.size)
                for flat in np.argsort(scores, axis=None)[:count]:
                    mask[flat // scores.shape[1], j + flat % scores.shape[1]] = False
        for i in range(W.shape[0]):
            if not mask[i, j]:
                W[i, j:] -= W[i, j] / inverses[j][0, 0] * inverses[j][0]
    return np.where(mask, W, 0), mask


@pytest.mark.parametrize(("share", "pattern"), PATTERNS)
@pytest.mark.parametrize("columns", [16, 40])
def test_it_is_the_oracles(share, pattern, columns):
    rng = np.random.default_rng(columns)
    W, X = rng.standard_normal((12, columns)), correlated(200, columns, 1)
    H, sparsity = X.T @ X / 200, Sparsity.parse(share, pattern)
    expected, mask = oracle(W, H, sparsity, 16, 0.01)
    found, found_mask = sparsegpt(W, H, sparsity, block=16)
    assert (mask == found_mask).mean() > 0.99  # in float32 two scores may trade places
    rows = (mask == found_mask).all(1)
    assert rows.mean() > 0.7
    assert np.allclose(found[rows], expected[rows], atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("share", "pattern"), PATTERNS)
def test_its_error_is_below_magnitudes(seed, share, pattern):
    rng = np.random.default_rng(seed)
    W, X = rng.standard_normal((24, 48)), correlated(300, 48, seed)
    sparsity = Sparsity.parse(share, pattern)
    pruned, mask = sparsegpt(W, X.T @ X / 300, sparsity, block=16)
    plain = np.where(largest(np.abs(W), sparsity), W, 0)
    assert np.linalg.norm(X @ (W - pruned).T) < np.linalg.norm(X @ (W - plain).T)
    assert (pruned[~mask] == 0).all() and np.isfinite(pruned).all()
    assert abs(1 - mask.mean() - share) < 0.01


def test_inputs_that_are_always_zero_do_no_harm():
    X = correlated(100, 16, 0)
    X[:, [3, 9]] = 0
    W = np.random.default_rng(0).standard_normal((4, 16))
    pruned, _ = sparsegpt(W, X.T @ X / 100, Sparsity.parse(0.5, "unstructured"))
    assert np.isfinite(pruned).all() and (pruned[:, [3, 9]] == 0).all()
    assert np.isfinite(sparsegpt(W, np.zeros((16, 16)), Sparsity.parse(0.5, "2:4"))[0]).all()


def test_fewer_samples_than_inputs_are_enough_to_go_on():
    X = correlated(5, 40, 0)
    pruned, _ = sparsegpt(np.random.default_rng(0).standard_normal((4, 40)), X.T @ X / 5, Sparsity.parse(0.5, "unstructured"))
    assert np.isfinite(pruned).all()


@pytest.mark.parametrize("n", [1, 5, 64, 65, 200])
def test_the_factor_is_that_of_the_inverse(n):
    X = correlated(3 * n + 10, n, 0)
    H = X.T @ X
    U = inverse_cholesky(H, 0.01).astype(np.float64)
    assert (np.tril(U, -1) == 0).all()
    damped = H + 0.01 * np.diag(H).mean() * np.eye(n)
    assert np.allclose(U.T @ U @ damped, np.eye(n), atol=1e-3)


def test_inputs_too_small_for_float32_are_no_obstacle():
    """Their products are rounded so coarsely that the matrix is not definite."""
    H = np.full((30, 30), 2e-44, np.float32)
    np.fill_diagonal(H, 1e-44)
    assert np.linalg.eigvalsh(H.astype(np.float64))[0] < -0.01 * np.diagonal(H).mean()
    W = np.random.default_rng(1).standard_normal((8, 30)).astype(np.float32)
    pruned, mask = sparsegpt(W, H, Sparsity(0.5))
    assert np.isfinite(pruned).all() and mask.mean() == 0.5
