"""The last factor of a chain, fitted to the output: given hidden values h = P x, the U with the
least tr (W − U P) H (W − U P)ᵀ."""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array


def last_factor(W: Array, P: Array, H: Array | None) -> tuple[Array, float]:
    """U (out, hidden) for W (out, in) and P (hidden, in), and the share of the output's energy that is lost."""
    W = W.astype(np.float64)
    PH = P if H is None else P @ H
    B, A = PH @ P.T, PH @ W.T
    B.flat[:: len(B) + 1] += 1e-10 * max(np.trace(B) / len(B), 1e-300)
    U: Array = np.linalg.solve(B, A).T
    energy = float(np.einsum("oi,oi->", W, W if H is None else W @ H))
    lost = energy - float(np.einsum("oh,ho->", U, A))
    return U, max(lost, 0.0) / max(energy, 1e-300)
