"""What a layer should compute from the inputs that the changed model gives, before it is cut to a rank.

W* minimises Σ ‖W x + b − y‖² + λ ‖W − W₀‖² over pairs of an input row x of the changed model and an output row y of the original.
The best W of rank r for the same sum is W* cut to r in the metric H + λ (reduced-rank regression, Izenman 1975), so that fitting
and cutting are one step. λ is chosen by the error on rows that were held out: on little data a fit that is not pulled towards W₀
is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelkit.core.forms import Array

PULLS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass
class Pairs:
    """Moments of pairs of rows, x (in,) and y (out,): their number, sums and products, float64."""

    count: float
    x: Array
    y: Array
    xx: Array
    yx: Array
    yy: float

    @classmethod
    def of(cls, X: Array, Y: Array) -> Pairs:
        """X (rows, in) and Y (rows, out), float32."""
        wide = Y.astype(np.float64)
        return cls(
            float(len(X)), X.sum(0, dtype=np.float64), wide.sum(0), (X.T @ X).astype(np.float64),
            (Y.T @ X).astype(np.float64), float(np.einsum("no,no->", wide, wide)),
        )  # fmt: skip

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            self.count + other.count, self.x + other.x, self.y + other.y, self.xx + other.xx, self.yx + other.yx,
            self.yy + other.yy,
        )  # fmt: skip

    def moments(self, centred: bool) -> tuple[Array, Array]:
        """H (in, in) and G (out, in), about the means where there is a bias."""
        if not centred:
            return self.xx, self.yx
        n = max(self.count, 1.0)
        return self.xx - np.outer(self.x, self.x) / n, self.yx - np.outer(self.y, self.x) / n

    def bias(self, W: Array) -> Array:
        """The b that fits best with W."""
        bias: Array = (self.y - W @ self.x) / max(self.count, 1.0)
        return bias

    def error(self, W: Array, b: Array | None) -> float:
        """Σ ‖W x + b − y‖²."""
        found = self.yy - 2 * float(np.einsum("oi,oi->", W, self.yx)) + float(np.einsum("oi,oi->", W @ self.xx, W))
        if b is not None:
            found += 2 * float(b @ (W @ self.x - self.y)) + self.count * float(b @ b)
        return found


class Regression:
    """Fits with any pull."""

    def __init__(self, pairs: Pairs, W0: Array, centred: bool) -> None:
        self.H, self._G = pairs.moments(centred)
        self._W0 = W0.astype(np.float64)
        self._unit = max(float(np.trace(self.H)) / len(self.H), 1e-12)

    def target(self, pull: float) -> Array:
        """W* (out, in). pull: λ as a share of the mean diagonal of H."""
        W: Array = np.linalg.solve(self.metric(pull), (self._G + pull * self._unit * self._W0).T).T
        return W

    def metric(self, pull: float) -> Array:
        """H + λ."""
        metric = self.H.copy()
        metric.flat[:: len(metric) + 1] += pull * self._unit
        return metric
