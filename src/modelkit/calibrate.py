"""Ranges of activations: run the model over calibration data, keep a histogram per edge, choose a grid for each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from math import prod

from .algorithms.quantize.histogram import Histogram
from .analysis.synthetic import fixed_batch
from .core.errors import ModelkitError
from .core.forms import Grid
from .core.graph import Graph
from .core.model import Feeds, Model

RANGES = {  # name → (module, function): imported when chosen
    "minmax": ("modelkit.algorithms.quantize.minmax", "minmax_range"),
    "percentile": ("modelkit.algorithms.quantize.percentile", "percentile_range"),
    "entropy": ("modelkit.algorithms.quantize.entropy", "entropy_range"),
    "mse": ("modelkit.algorithms.quantize.mse", "mse_range"),
}
_BATCH_BYTES = 4 << 20
_LARGEST_BATCH = 16


def calibration_batch(graph: Graph) -> int:
    """Samples per batch: the size that the file fixes, or as many as keep all activations of a batch within 4 MiB."""
    if (fixed := fixed_batch(graph)) is not None:
        return fixed
    sample = sum(4 * prod(edge.shape) for edge in graph.edges.values() if edge.shape)
    return max(1, min(_LARGEST_BATCH, _BATCH_BYTES // max(sample, 1)))


def range_method(name: str) -> Callable[[Histogram], tuple[float, float]]:
    """The function that chooses a range from a histogram. Raises ModelkitError for an unknown name."""
    if name not in RANGES:
        raise ModelkitError(f"There is no calibration method {name!r}.", f"Choose one of: {', '.join(RANGES)}.")
    module, function = RANGES[name]
    method: Callable[[Histogram], tuple[float, float]] = getattr(importlib.import_module(module), function)
    return method


def collect(model: Model, batches: Iterable[Feeds], edges: Iterable[str]) -> dict[str, Histogram]:
    """A histogram of each edge over all batches. Raises ModelkitError for values that are not finite and for no batches."""
    histograms = {edge: Histogram() for edge in edges}
    seen = False
    for values in model.observe(batches, list(histograms)):
        seen = True
        for edge, histogram in histograms.items():
            try:
                histogram.add(values[edge])
            except ValueError:
                raise ModelkitError(
                    f"The model computes NaN or infinity at {edge!r} on the calibration data.",
                    "Check the data's scaling (--scale, --mean, --std) and that the original model works on it.",
                ) from None
        del values  # before the next batch is computed
    if not seen:
        raise ModelkitError("The calibration data holds no samples.", "Give at least one sample, better some hundred.")
    return histograms


def grids_from(histograms: Mapping[str, Histogram], method: str, same_grid: Mapping[str, str], signed: bool) -> dict[str, Grid]:
    """A grid for every edge; an edge in `same_grid` takes that of the edge named there."""
    choose = range_method(method)

    def root(edge: str) -> str:
        while edge in same_grid:
            edge = same_grid[edge]
        return edge

    made: dict[str, Grid] = {}
    for edge in histograms:
        source = root(edge)
        if source not in made:
            low, high = choose(histograms[source])
            if signed:  # targets that want s8 want it symmetric
                low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
            made[source] = Grid.over(low, high, signed)
        made[edge] = made[source]
    return made
