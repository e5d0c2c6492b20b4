"""SmoothQuant: channels of an activation with outliers are divided by a factor that their weights are multiplied by, so that one
grid for the whole tensor serves all of them.

Xiao et al., "SmoothQuant: accurate and efficient post-training quantization for large language models", ICML 2023, eq. 3–4. The
strength α is searched for each activation, as AWQ (Lin et al. 2024, eq. 5) does for weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from modelkit.core.forms import Array, Grid, WeightForm

STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
OUTPUTS = 256  # of each weight's outputs that a strength is judged by
_TINY = 1e-5
_GAIN = 0.7  # a factor must bring the squared error below this share: one multiplication is not free


def factor_of_strength(largest: Array, weights: Sequence[Array], strength: float) -> Array:
    """What to multiply the activation by, (features,): s⁻¹ with s_j = max|x_j|^α / max|w_j|^(1−α), brought to a geometric mean
    of 1. `largest` (features,): max|x_j|; `weights`: (out, features) each."""
    heaviest = np.maximum.reduce([np.abs(weight).max(0) for weight in weights])
    logarithm = strength * np.log(np.maximum(largest, _TINY)) - (1 - strength) * np.log(np.maximum(heaviest, _TINY))
    factor: Array = np.exp(logarithm.mean() - logarithm).astype(np.float32)
    return factor


def smoothing_factor(
    x: Array,
    largest: Array,
    weights: Sequence[Array],
    quantize: Callable[[Array], WeightForm],
    grid_of: Callable[[Array], Grid],
    strengths: Sequence[float] = STRENGTHS,
) -> Array | None:
    """The factor (features,) to multiply an activation by before it is quantised, the weights being divided by it; None where
    none helps enough.

    `x` (rows, features) is a sample of the activation, `largest` (features,) its largest magnitudes, `weights` (out, features)
    those of all layers that read it. A strength is judged by the squared error of each row of the layers' outputs relative to
    that row, so that a few tokens of enormous values don't decide for all the others.
    """
    judged = [weight[:: -(-len(weight) // OUTPUTS)] for weight in weights]
    exact = [x @ weight.T for weight in judged]
    norms = [(y**2).sum(1) + _TINY for y in exact]

    def error(factor: Array | float) -> float:
        seen = x * factor
        seen = grid_of(seen).fake_quantize(seen)
        found = (seen @ quantize(weight / factor).decode().T for weight in judged)
        return float(sum((((a - b) ** 2).sum(1) / n).mean() for a, b, n in zip(exact, found, norms, strict=True)))

    candidates = [factor_of_strength(largest, weights, strength) for strength in strengths]
    errors = [error(factor) for factor in candidates]
    best = int(np.argmin(errors))
    return candidates[best] if errors[best] < _GAIN * error(1.0) else None
