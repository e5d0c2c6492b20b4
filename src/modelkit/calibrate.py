"""What calibration data shows of a model. Ranges of activations: a histogram per edge, and a grid for each. Moments of layers'
inputs, and gradients of a loss."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from .algorithms.quantize.histogram import Histogram
from .analysis.products import input_key, inputs
from .analysis.synthetic import fixed_batch
from .core.errors import ModelkitError
from .core.forms import Array, Grid
from .core.graph import Graph, Node
from .core.model import Feeds, Model
from .core.pruning import Gradients, Site
from .core.statistics import InputMoments

if TYPE_CHECKING:
    from .data import Dataset

RANGES = {  # name → (module, function): imported when chosen
    "minmax": ("modelkit.algorithms.quantize.minmax", "minmax_range"),
    "percentile": ("modelkit.algorithms.quantize.percentile", "percentile_range"),
    "entropy": ("modelkit.algorithms.quantize.entropy", "entropy_range"),
    "mse": ("modelkit.algorithms.quantize.mse", "mse_range"),
}
SAMPLED_ROWS = 256  # of an activation, over the whole calibration data
_INPUT_ROWS = 32768  # of a convolution's inputs, over all batches
_BATCH_BYTES = 4 << 20
_LARGEST_BATCH = 16


def calibration_batch(graph: Graph, batch_bytes: int = _BATCH_BYTES) -> int:
    """Samples per batch: the size that the file fixes, or as many as keep all activations of a batch within `batch_bytes`, at
    most 16."""
    if (fixed := fixed_batch(graph)) is not None:
        return fixed
    sample = sum(4 * prod(edge.shape) for edge in graph.edges.values() if edge.shape)
    return max(1, min(_LARGEST_BATCH, batch_bytes // max(sample, 1)))


def range_method(name: str) -> Callable[[Histogram], tuple[float, float]]:
    """The function that chooses a range from a histogram. Raises ModelkitError for an unknown name."""
    if name not in RANGES:
        raise ModelkitError(f"There is no calibration method {name!r}.", f"Choose one of: {', '.join(RANGES)}.")
    module, function = RANGES[name]
    method: Callable[[Histogram], tuple[float, float]] = getattr(importlib.import_module(module), function)
    return method


class Rows:
    """A sample of an activation's rows, evenly spread over all that were seen (at most 2 × `SAMPLED_ROWS` are held), and the
    smallest and largest value of each feature in all of them."""

    def __init__(self) -> None:
        self._kept: list[Array] = []
        self._stride = 1
        self._next = 0
        self.low = np.full(1, np.inf, np.float32)
        self.high = np.full(1, -np.inf, np.float32)

    def add(self, values: Array) -> None:
        """`values` (…, features)."""
        rows = values.reshape(-1, values.shape[-1])
        self.low = np.minimum(self.low, rows.min(0, initial=np.inf))
        self.high = np.maximum(self.high, rows.max(0, initial=-np.inf))
        self._kept.append(rows[self._next :: self._stride].copy())
        self._next = (self._next - len(rows)) % self._stride
        if sum(map(len, self._kept)) > 2 * SAMPLED_ROWS:
            kept = np.concatenate(self._kept)
            step = -(-len(kept) // SAMPLED_ROWS)
            self._kept = [kept[::step].copy()]
            self._next += self._stride * (-len(kept) % step)
            self._stride *= step

    def sample(self) -> Array:
        """(rows, features)"""
        return np.concatenate(self._kept)


def collect(
    model: Model, batches: Iterable[Feeds], edges: Iterable[str], sampled: Iterable[str] = ()
) -> tuple[dict[str, Histogram], dict[str, Rows]]:
    """A histogram of each edge over all batches, and rows of those in `sampled`. Raises ModelkitError for values that are not
    finite and for no batches."""
    histograms = {edge: Histogram() for edge in edges}
    rows = {edge: Rows() for edge in sampled}
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
        for edge, sample in rows.items():
            sample.add(values[edge])
        del values  # before the next batch is computed
    if not seen:
        raise ModelkitError("The calibration data holds no samples.", "Give at least one sample, better some hundred.")
    return histograms, rows


def input_moments(
    model: Model, batches: Sequence[Feeds], layers: Sequence[Node], full: bool, done: Container[str] = ()
) -> Iterator[tuple[Node, InputMoments]]:
    """Each layer with the moments of its inputs, in a walk: weights that are set in between count from there on. Layers whose
    name is in `done` when their turn comes are passed over. Raises ModelkitError for values that are not finite."""
    for edge, values in model.walk(batches, dict.fromkeys(layer.inputs[0] for layer in layers)):
        known: dict[Hashable, InputMoments] = {}
        for layer in layers:
            if layer.inputs[0] != edge or layer.name in done:
                continue
            key = input_key(layer)
            if key not in known:
                known[key] = _moments(layer, values, full)
            yield layer, known[key]


def _moments(layer: Node, values: Sequence[Array], full: bool) -> InputMoments:
    """values: what the layer reads in each batch."""
    moments = InputMoments(full)
    for value in values:
        try:
            moments.add(inputs(layer, value, -(-_INPUT_ROWS // len(values))))
        except ValueError:
            raise not_finite(layer) from None
    return moments


def not_finite(layer: Node) -> ModelkitError:
    """What is wrong where a layer reads values that are not finite."""
    return ModelkitError(
        f"The input of {layer.name} holds NaN or infinity on the calibration data.",
        "Check the data's scaling (--scale, --mean, --std) and that the original model works on it.",
    )


def loss_gradients(model: Model, calibration: Dataset, seed: int) -> Gradients:
    """The gradients that `distill.fisher` finds on the calibration data."""

    def found(sites: Collection[Site]) -> Iterator[Mapping[Site, Array]]:
        from .distill.fisher import gradients  # torch

        return gradients(model, calibration, sites, seed)

    return found


def grid_over(histogram: Histogram, method: str, signed: bool) -> Grid:
    """The grid for the range that `method` chooses."""
    low, high = range_method(method)(histogram)
    if signed:  # targets that want s8 want it symmetric
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    return Grid.over(low, high, signed)


def grids_from(histograms: Mapping[str, Histogram], method: str, same_grid: Mapping[str, str], signed: bool) -> dict[str, Grid]:
    """A grid for every edge; an edge in `same_grid` takes that of the edge named there."""

    def root(edge: str) -> str:
        while edge in same_grid:
            edge = same_grid[edge]
        return edge

    made: dict[str, Grid] = {}
    for edge in histograms:
        source = root(edge)
        if source not in made:
            made[source] = grid_over(histograms[source], method, signed)
        made[edge] = made[source]
    return made
