"""What runs beside a layer whose weight was changed, to make up for the change: W ≈ Q + U V.

min ‖(W − Q − U V) H^½‖² over rank r is met by W − Q cut to that rank in the metric H (QERA, Zhang et al. 2024,
https://arxiv.org/abs/2410.06040, theorem 1). The two factors share the size of their product evenly, so that both can be stored
in few bits.
"""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.lowrank import Metric

from .truncation import factors, spectrum


def correction(lost: Array, rank: int, H: Array | None) -> tuple[Array, Array]:
    """V (rank, in), which reads the input, and U (out, rank), float64, for `lost` = W − Q (out, in). H: Σ x xᵀ (in, in)."""
    wide = lost.astype(np.float64)
    V, U = factors(wide, spectrum(wide, Metric(None if H is None else H.astype(np.float64)), rank), rank)
    balance = np.sqrt(np.linalg.norm(V, axis=1))
    balance[balance == 0] = 1.0
    return V / balance[:, None], U * balance
