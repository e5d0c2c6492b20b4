"""Smoothing of a whole model: the factor of each activation that gains from one, and the grid of what it becomes.

The arithmetic is in `algorithms/quantize/smooth.py`, and which activations it is tried on in `analysis/smoothing.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from modelkit.algorithms.quantize.histogram import Histogram
from modelkit.algorithms.quantize.smooth import smoothing_factor
from modelkit.calibrate import Rows, grid_over
from modelkit.core.forms import Array, Grid
from modelkit.core.model import Model
from modelkit.core.passes import Pass


@dataclass(frozen=True)
class Smoothed:
    """`factor` (features,): what the activation is multiplied by, and the weights of `layers` are divided by."""

    factor: Array
    grid: Grid
    layers: tuple[str, ...]


def smooth(
    model: Model, edges: Mapping[str, Sequence[str]], rows: Mapping[str, Rows], chosen: Pass, ranges: str, signed: bool
) -> dict[str, Smoothed]:
    """The activations, of those in `edges` (with the layers that read them), that gain from smoothing."""
    found = {}
    for edge, layers in edges.items():
        weights = [weight for name in layers if (weight := model.parameter(name, "weight")) is not None]
        layer, seen = model.graph.by_name[layers[0]], rows[edge]
        x = seen.sample().astype(np.float32, copy=False)
        quantize = partial(chosen.compress, layer)
        factor = smoothing_factor(x, np.maximum(-seen.low, seen.high), weights, quantize, lambda v: _grid(v, ranges, signed))
        if factor is not None:
            bounds = float((seen.low * factor).min()), float((seen.high * factor).max())
            found[edge] = Smoothed(factor, _grid(x * factor, ranges, signed, bounds), tuple(layers))
    return found


def _grid(values: Array, ranges: str, signed: bool, bounds: tuple[float, float] | None = None) -> Grid:
    """The grid for values that are a sample of those within `bounds`."""
    histogram = Histogram()
    histogram.add(values)
    if bounds is not None:
        histogram.minimum, histogram.maximum = bounds
    return grid_over(histogram, ranges, signed)
