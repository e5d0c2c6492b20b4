"""How far a changed model's outputs, and those of its layers, are from the original's."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from .analysis.synthetic import fixed_batch, synthetic_inputs
from .calibrate import calibration_batch
from .core.errors import AccuracyWarning
from .core.forms import Array, WeightForm
from .core.lowrank import LowRank
from .core.model import Feeds, Model
from .publish import kept_outputs

if TYPE_CHECKING:
    from .data import Dataset

_SAMPLE_BYTES = 8 << 20  # layer errors and agreement are taken on as many samples as have this much in activations, at most 16
_VALUES = 1 << 12  # and on this many values of each layer
_COLLAPSED = 0.5  # relative output error from which a result is called broken


def comparison_batches(model: Model, calibration: Dataset | None, seed: int) -> list[Feeds]:
    """A few batches to compare on: of the calibration data, or one made up."""
    samples = calibration_batch(model.graph, _SAMPLE_BYTES)
    if calibration is None:
        return [synthetic_inputs(model.graph, samples, seed)]
    size = calibration_batch(model.graph)
    return list(islice(feeds_of(model, calibration, size), -(-samples // size)))


def feeds_of(model: Model, calibration: Dataset, size: int) -> Iterator[Feeds]:
    """Batches of inputs; where the file fixes the batch, the last one is filled up by repeating its samples."""
    if fixed_batch(model.graph) is not None:
        return (feeds for feeds, _, _ in calibration.padded_batches(size))
    return (feeds for feeds, _ in calibration.batches(size))


def compare(
    base: Model, result: Model, layers: list[str], batches: Sequence[Feeds]
) -> tuple[list[Array], dict[str, float], dict[str, float]]:
    """The result's outputs on the first batch, the error of each of the layers' outputs, and how far the model's outputs moved.

    One model is run to the end before the other, so that only one is in memory; and the result once more for its outputs
    alone, as a runtime that must also give layers' outputs does not join them into integer kernels."""
    edges = {name: base.graph.by_name[name].outputs[0] for name in layers}
    edges = {name: edge for name, edge in edges.items() if edge in result.graph.edges}
    original, before = _sampled(base, batches, edges.values())
    changed, _ = _sampled(result, batches, edges.values())
    errors = {name: relative_error(original[edge], changed[edge]) for name, edge in edges.items()}
    outputs = [kept_outputs(result, values) for values in result.observe(batches, [])]
    moved = [
        relative_error(_joined(old), _joined(new))
        for old, new in zip(zip(*before, strict=True), zip(*outputs, strict=True), strict=True)
        if "float" in old[0].dtype.name
    ]
    return outputs[0], errors, {"relative_error": max(moved, default=0.0)}


def _sampled(model: Model, batches: Sequence[Feeds], edges: Collection[str]) -> tuple[dict[str, Array], list[list[Array]]]:
    """Some values of each of the edges, and the model's outputs for each batch."""
    some: dict[str, list[Array]] = {edge: [] for edge in edges}
    outputs = []
    for values in model.observe(batches, list(some)):
        for edge, parts in some.items():
            parts.append(_some(values[edge], _VALUES // len(batches)))
        outputs.append(kept_outputs(model, values))
        del values  # before the next batch is computed
    return {edge: _joined(parts) for edge, parts in some.items()}, outputs


def collapsed(agreement: Mapping[str, float]) -> bool:
    """Whether the outputs moved so far that the result is probably broken."""
    return agreement["relative_error"] > _COLLAPSED


def how_far(agreement: Mapping[str, float], from_data: bool) -> str:
    on = "the calibration data" if from_data else "made-up inputs"
    return f"moved by {agreement['relative_error']:.0%} of their size on {on}"


def warn_if_collapsed(agreement: Mapping[str, float], from_data: bool, less: str, *others: str) -> None:
    """Say so, with what to do (`less`, or one of the others), where the outputs moved so far that the result is probably
    broken."""
    if collapsed(agreement):
        advice = [less, *(() if from_data else ("give calibration data with --calib",)), *others]
        warnings.warn(
            AccuracyWarning(
                f"The outputs {how_far(agreement, from_data)}: the result is probably broken. "
                f"{', '.join(advice)}, or leave layers out with --ignore."
            ),
            stacklevel=3,
        )


def _some(values: Array, count: int) -> Array:
    """An even sample of a layer's output, so that those of all layers need not be held."""
    flat = values.reshape(-1)
    step = -(-flat.size // count)
    return flat[:: step | 1].copy()  # a stride that is odd does not beat with the power-of-two sizes that layers have


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate([part.reshape(-1) for part in parts])


def weight_error(weight: Array, form: WeightForm, beside: LowRank | None = None) -> float:
    """‖w − ŵ‖ / ‖w‖. beside: what runs beside the layer."""
    decoded = form.decode()
    return relative_error(weight, decoded if beside is None else decoded + beside.decode())


def relative_error(expected: Array, found: Array) -> float:
    """‖y − ŷ‖ / ‖y‖ over the values of y that are finite; infinite where ŷ is not."""
    y, other = expected.astype(np.float64), found.astype(np.float64)
    at = np.isfinite(y)
    if not np.isfinite(other[at]).all():
        return float("inf")
    norm, off = float(np.linalg.norm(y[at])), float(np.linalg.norm(other[at] - y[at]))
    return off / norm if norm else off
