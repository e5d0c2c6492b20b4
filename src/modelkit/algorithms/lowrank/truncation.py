"""The best approximation of a matrix W (out, in) of rank r, in a metric of its inputs and of its outputs.

min ‖D (W − Ŵ) H^½‖² over rank r is met by Ŵ = D⁻¹ U Uᵀ D W, where U are the r leading eigenvectors of D W H Wᵀ D (Eckart and
Young 1936). With H the second moments of the inputs that is the least error of the layer's output, the optimum of SVD-LLM (Wang
et al. 2024, https://arxiv.org/abs/2403.07378, theorem 3.2) without inverting H^½, so it also holds for inputs that do not span
their space. D weighs outputs (FWSVD, Hsu et al. 2022, https://arxiv.org/abs/2207.00112).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.lowrank import Metric

from .partial import leading

_PARTIAL = 8  # a decomposition is partial where so many times the rank is less than the matrix is wide,
_LARGE = 512  # and the matrix is at least as wide as this


@dataclass(frozen=True)
class Spectrum:
    """U (out, k): what outputs are made of, most important first. energy (k,): how much of the output lies along each, with
    `total` that of all."""

    U: Array
    energy: Array
    total: float

    def errors(self) -> Array:
        """The share of the output's energy that is lost at ranks 0 … k."""
        lost = self.total - np.concatenate([[0.0], np.cumsum(self.energy)])
        errors: Array = np.maximum(lost, 0.0) / max(self.total, 1e-300)
        return errors


def spectrum(W: Array, metric: Metric, rank: int | None = None) -> Spectrum:
    """rank: how many directions are wanted at most; where they are few, no others are computed."""
    M = W.astype(np.float64) if metric.rows is None else metric.rows[:, None] * W.astype(np.float64)
    H, small = metric.columns, min(W.shape)
    if rank is not None and small >= _LARGE and _PARTIAL * rank <= small:
        return _partial(M, H, rank)
    if len(M) <= M.shape[1]:
        values, U = np.linalg.eigh(M @ (M.T if H is None else H @ M.T))
        values, U = values[::-1], U[:, ::-1]
    else:
        N = M if H is None else M @ root(H)
        values, V = np.linalg.eigh(N.T @ N)
        values, V = values[::-1], V[:, ::-1]
        U = N @ V / np.sqrt(np.maximum(values, max(values[0], 0.0) * 1e-14 + 1e-300))
    values = np.maximum(values, 0.0)
    return Spectrum(U[:, :rank], values[:rank], float(values.sum()))


def _partial(M: Array, H: Array | None, rank: int) -> Spectrum:
    N = M if H is None else M @ root(H)
    U, s = leading(N, rank)
    return Spectrum(U, s**2, float(np.einsum("ij,ij->", N, N)))


def factors(W: Array, found: Spectrum, rank: int, rows: Array | None = None) -> tuple[Array, Array]:
    """right (r, in), which reads the input, and left (out, r), float64; their product is Ŵ."""
    U = found.U[:, :rank]
    M = W if rows is None else rows[:, None] * W
    return U.T @ M, U if rows is None else U / rows[:, None]


def root(H: Array) -> Array:
    """A with A Aᵀ = H, for symmetric H without negative eigenvalues."""
    values, Q = np.linalg.eigh(H)
    square: Array = Q * np.sqrt(np.maximum(values, 0.0))
    return square


def power(H: Array, exponent: float) -> Array:
    """H to a power, for symmetric H without negative eigenvalues; to single precision, which halves the time of the slowest step
    for layers with thousands of inputs."""
    values, Q = np.linalg.eigh(H.astype(np.float32))
    result: Array = ((Q * np.maximum(values, 0.0) ** np.float32(exponent)) @ Q.T).astype(np.float64)
    return result
