"""Low-rank algorithms against closed forms in float64, written from the papers."""

import numpy as np
import pytest

from modelkit.algorithms.lowrank.correction import correction
from modelkit.algorithms.lowrank.partial import leading
from modelkit.algorithms.lowrank.projection import last_factor
from modelkit.algorithms.lowrank.refit import Pairs, Regression
from modelkit.algorithms.lowrank.spatial import separated
from modelkit.algorithms.lowrank.truncation import factors, power, root, spectrum
from modelkit.algorithms.lowrank.tucker import tucker2
from modelkit.core import passes
from modelkit.core.graph import Node
from modelkit.core.lowrank import LowRank, Metric


def _inputs(rng, n, width):
    return rng.standard_normal((n, width)) @ (rng.standard_normal((width, width)) * np.geomspace(3, 0.05, width))


def svd_llm(W, X, rank):
    """The optimum of ‖X Wᵀ − X Ŵᵀ‖ by whitening (theorem 3.2 of SVD-LLM): S Sᵀ = Xᵀ X, cut W S, and divide by S."""
    S = np.linalg.cholesky(X.T @ X)
    U, s, Vt = np.linalg.svd(W @ S, full_matrices=False)
    return (U[:, :rank] * s[:rank]) @ Vt[:rank] @ np.linalg.inv(S)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16)])
@pytest.mark.parametrize("rank", [1, 5, 11])
def test_truncation_is_the_closed_form_optimum(shape, rank):
    rng = np.random.default_rng(rank)
    W, X = rng.standard_normal(shape), _inputs(rng, 200, shape[1])
    found = spectrum(W, Metric(X.T @ X))
    right, left = factors(W, found, rank)
    assert right.shape == (rank, shape[1]) and left.shape == (shape[0], rank)
    oracle = svd_llm(W, X, rank)
    np.testing.assert_allclose(left @ right, oracle, atol=1e-6)
    lost = np.linalg.norm(X @ (W - oracle).T) ** 2 / np.linalg.norm(X @ W.T) ** 2
    assert found.errors()[rank] == pytest.approx(lost, rel=1e-4)


def test_without_a_metric_it_is_the_svd():
    W = np.random.default_rng(0).standard_normal((9, 14))
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    right, left = factors(W, spectrum(W, Metric()), 4)
    np.testing.assert_allclose(left @ right, (U[:, :4] * s[:4]) @ Vt[:4], atol=1e-10)


def test_weighed_outputs():
    """FWSVD: the SVD of diag(d) W, divided by d."""
    rng = np.random.default_rng(0)
    W, d = rng.standard_normal((9, 14)), rng.uniform(0.1, 3, 9)
    U, s, Vt = np.linalg.svd(d[:, None] * W, full_matrices=False)
    right, left = factors(W, spectrum(W, Metric(rows=d)), 4, d)
    np.testing.assert_allclose(left @ right, (U[:, :4] * s[:4]) @ Vt[:4] / d[:, None], atol=1e-10)


def test_inputs_that_do_not_span_their_space():
    rng = np.random.default_rng(0)
    W, X = rng.standard_normal((8, 30)), rng.standard_normal((5, 30))
    right, left = factors(W, spectrum(W, Metric(X.T @ X)), 5)
    np.testing.assert_allclose(X @ (left @ right).T, X @ W.T, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_activation_aware_is_never_worse_than_plain_on_the_outputs(seed):
    rng = np.random.default_rng(seed)
    W, X = rng.standard_normal((16, 16)), _inputs(rng, 100, 16)
    for rank in range(1, 16):
        errors = []
        for metric in (Metric(X.T @ X), Metric()):
            right, left = factors(W, spectrum(W, metric), rank)
            errors.append(np.linalg.norm(X @ (W - left @ right).T))
        assert errors[0] <= errors[1] * (1 + 1e-9)


def test_partial_finds_what_the_whole_decomposition_finds():
    rng = np.random.default_rng(0)
    M = (rng.standard_normal((600, 400)) * np.geomspace(1, 0.01, 400)) @ rng.standard_normal((400, 700))
    U, s = leading(M, 30)
    whole = np.linalg.svd(M, compute_uv=False)
    np.testing.assert_allclose(s, whole[:30], rtol=1e-2)
    kept = np.linalg.norm(M - U @ (U.T @ M))
    assert kept <= 1.01 * np.sqrt((whole[30:] ** 2).sum())


def test_few_ranks_of_a_large_matrix_are_found_partially():
    W = np.random.default_rng(0).standard_normal((512, 512)) * np.geomspace(1, 1e-3, 512)
    found = spectrum(W, Metric(), 16)
    assert found.U.shape == (512, 16)
    assert found.total == pytest.approx((W**2).sum())
    whole = spectrum(W, Metric())
    np.testing.assert_allclose(found.errors(), whole.errors()[:17], rtol=0.01)


def test_root():
    A = np.random.default_rng(0).standard_normal((6, 4))
    H = A @ A.T
    np.testing.assert_allclose(root(H) @ root(H).T, H, atol=1e-12)


def test_spatial_separation_is_the_best_of_its_rank():
    W = np.random.default_rng(0).standard_normal((6, 5, 3, 4))
    for rank in (1, 4, 15):
        decoded = LowRank(separated(W, rank)).decode()
        assert decoded.shape == W.shape
        s = np.linalg.svd(W.transpose(1, 2, 3, 0).reshape(15, 24), compute_uv=False)
        assert np.linalg.norm(W - decoded) ** 2 == pytest.approx((s[rank:] ** 2).sum(), abs=1e-9)


def test_tucker():
    rng = np.random.default_rng(0)
    core, behind, before = rng.standard_normal((3, 4, 3, 3)), rng.standard_normal((8, 3)), rng.standard_normal((7, 4))
    W = np.einsum("srkl,os,ir->oikl", core, behind, before)
    np.testing.assert_allclose(LowRank(tucker2(W, 4, 3)).decode(), W, atol=1e-10)
    noisy = W + 0.1 * rng.standard_normal(W.shape)
    found = np.linalg.norm(noisy - LowRank(tucker2(noisy, 4, 3)).decode())
    assert found <= np.linalg.norm(noisy - W)


def test_the_last_factor_is_a_least_squares_fit():
    rng = np.random.default_rng(0)
    W, P, X = rng.standard_normal((5, 12)), rng.standard_normal((4, 12)), _inputs(rng, 60, 12)
    U, error = last_factor(W, P, X.T @ X)
    oracle = np.linalg.lstsq(X @ P.T, X @ W.T, rcond=None)[0].T
    np.testing.assert_allclose(U, oracle, atol=1e-6)
    assert error == pytest.approx((np.linalg.norm(X @ (W - oracle @ P).T) / np.linalg.norm(X @ W.T)) ** 2, rel=1e-6)


@pytest.mark.parametrize("centred", [True, False])
def test_refit_is_ridge_regression_towards_the_original(centred):
    rng = np.random.default_rng(0)
    X, W0 = _inputs(rng, 50, 6).astype(np.float32) + 1, rng.standard_normal((4, 6))
    Y = (X @ (W0 + 0.1).T + 2).astype(np.float32)
    halves = Pairs.of(X[:20], Y[:20]) + Pairs.of(X[20:], Y[20:])
    regression = Regression(halves, W0, centred)
    A, B = X.astype(float), Y.astype(float)
    if centred:
        A, B = A - A.mean(0), B - B.mean(0)
    penalty = 0.3 * np.trace(A.T @ A) / 6
    stacked = np.concatenate([A, np.sqrt(penalty) * np.eye(6)]), np.concatenate([B, np.sqrt(penalty) * W0.T])
    oracle = np.linalg.lstsq(*stacked, rcond=None)[0].T
    W = regression.target(0.3)
    np.testing.assert_allclose(W, oracle, rtol=1e-4, atol=1e-4)
    b = halves.bias(W)
    direct = ((X @ W.T + b - Y) ** 2).sum()
    assert halves.error(W, b) == pytest.approx(direct, rel=1e-2)
    assert halves.error(W, None) == pytest.approx(((X @ W.T - Y) ** 2).sum(), rel=1e-2)


def test_cutting_the_fit_in_its_own_metric_is_the_best_of_that_rank():
    """Reduced-rank regression: no other matrix of the rank has a smaller penalised error."""
    rng = np.random.default_rng(0)
    X, W0 = _inputs(rng, 80, 8).astype(np.float32), rng.standard_normal((6, 8))
    Y = (X @ W0.T + rng.standard_normal((80, 6))).astype(np.float32)
    pairs = Pairs.of(X, Y)
    regression = Regression(pairs, W0, False)
    target, metric = regression.target(0.1), Metric(regression.metric(0.1))
    penalty = 0.1 * np.trace(pairs.xx) / 8

    def loss(W):
        return pairs.error(W, None) + penalty * ((W - W0) ** 2).sum()

    right, left = factors(target, spectrum(target, metric), 3)
    best = loss(left @ right)
    for seed in range(30):
        other = np.random.default_rng(seed)
        L, R = left + 0.02 * other.standard_normal(left.shape), right + 0.02 * other.standard_normal(right.shape)
        assert best <= loss(L @ R) + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_a_correction_is_the_best_of_its_rank_for_the_output(seed):
    """QERA: the error of the weight, whitened, cut and unwhitened."""
    rng = np.random.default_rng(seed)
    W, X = rng.standard_normal((12, 20)), _inputs(rng, 200, 20)
    Q = np.round(W * 2) / 2
    V, U = correction(W - Q, 4, X.T @ X)
    assert V.shape == (4, 20) and U.shape == (12, 4)
    np.testing.assert_allclose(U @ V, svd_llm(W - Q, X, 4), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(U, axis=0), np.linalg.norm(V, axis=1))
    plain_V, plain_U = correction(W - Q, 4, None)
    lost = [np.linalg.norm(X @ (W - Q - other).T) for other in (U @ V, plain_U @ plain_V, 0 * W)]
    assert lost[0] < lost[1] < lost[2]


def test_fisher_weighs_outputs_by_their_gradients():
    """A linear layer, and a table whose outputs are its columns."""
    layers = [Node("fc", "linear", "MatMul", ("x",), ("y",)), Node("table", "embedding", "Gather", ("i",), ("z",))]
    batches = [np.random.default_rng(seed).standard_normal((3, 5)) for seed in range(4)]
    chosen = passes.build("lowrank.fisher", {})
    chosen.learn(layers, lambda sites: ({site: batch.astype(np.float32) for site in sites} for batch in batches))
    for layer, axis, size in ((layers[0], 1, 3), (layers[1], 0, 5)):
        information = np.sum([np.sum(batch**2, axis) for batch in batches], 0)
        rows = chosen.metric(layer, np.zeros((size, 1)), None).rows
        np.testing.assert_allclose(rows**2, information / information.mean() + 0.01, rtol=1e-5)


def test_power_halfway_is_the_root_of_the_matrix():
    X = _inputs(np.random.default_rng(0), 200, 10)
    H = X.T @ X
    half = power(H, 0.5)
    np.testing.assert_allclose(half @ half, H, atol=1e-5 * np.abs(H).max())
    np.testing.assert_allclose(half, half.T, atol=1e-5 * np.abs(half).max())
