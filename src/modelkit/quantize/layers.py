"""The layers of a model in their new forms: weights, the biases of integer layers, grids of activations. The arithmetic is in
`algorithms/quantize`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from modelkit.analysis.placement import place_grids
from modelkit.core.forms import Array, DynamicGrid, Grid, Quantized, WeightForm
from modelkit.core.graph import Node
from modelkit.core.lowrank import LowRank, parts
from modelkit.core.model import EdgeGrid, Model, finite_weight
from modelkit.core.passes import Pass
from modelkit.result import LayerRecord, stored_bytes

from .planning import Plan
from .smoothing import Smoothed


def compress_weights(
    model: Model, chosen: Pass, plan: Plan, smoothed: Mapping[str, Smoothed] | None = None
) -> dict[str, WeightForm]:
    """The new form of every weight in the plan; of one that reads a smoothed activation, divided by the factor. Tied weights
    share one form. Raises ModelkitError for NaN weights."""
    forms: dict[str, WeightForm] = {}
    made: dict[tuple[str, ...], WeightForm] = {}
    factor_of = {name: (edge, entry.factor) for edge, entry in (smoothed or {}).items() for name in entry.layers}
    for name in plan.changed:
        layer = model.graph.by_name[name]
        weight = finite_weight(model, name)
        edge, factor = factor_of.get(name, ("", None))
        if factor is not None:
            weight = weight / factor
        key = (*layer.parameters["weight"].stored, str(weight.shape), edge)
        if key not in made or not layer.parameters["weight"].stored:
            made[key] = chosen.compress(layer, weight)
        forms[name] = made[key]
    return forms


def apply(
    model: Model,
    plan: Plan,
    forms: Mapping[str, WeightForm],
    grids: Mapping[str, Grid],
    smoothed: Mapping[str, Smoothed] | None = None,
) -> None:
    """Rewrite `model` in place: weights, biases of integer layers, activation grids, smoothed or not."""
    smoothed = smoothed or {}
    placement = place_grids(model.graph, set(plan.static))
    grids = {**grids, **{edge: entry.grid for edge, entry in smoothed.items()}}
    biases = {name: model.parameter(name, "bias") for name in plan.static}
    for name in plan.changed:
        form = forms[name]
        if name in plan.static and isinstance(form, Quantized):
            grid, bias = grids[placement.input_of[name]], biases[name]
            if bias is not None:
                form = _room_for_bias(form, model.parameter(name, "weight"), bias, grid)
                model.set_parameter(name, "bias", _integer_bias(bias, form, grid))
        model.set_parameter(name, "weight", form, DynamicGrid() if name in plan.dynamic else None)
    factors = {edge: entry.factor for edge, entry in smoothed.items()}
    model.quantize_edges({edge: EdgeGrid(grids[edge], at, factors.get(edge)) for edge, at in placement.readers.items()})


def _integer_bias(bias: Array, form: Quantized, grid: Grid) -> Quantized:
    """Integer kernels add the bias to the int32 sum, so its grid is that of the products: s_x · s_w."""
    scale = (np.float32(grid.scale) * form.scale).astype(np.float32)
    scale = np.broadcast_to(scale.reshape(-1, 1), (bias.size, 1)).copy()
    codes = np.rint(bias.astype(np.float64) / scale[:, 0]).astype(np.int32)
    return Quantized(codes, scale, 32, dtype=str(bias.dtype))


def _room_for_bias(form: Quantized, weight: Array | None, bias: Array, grid: Grid) -> Quantized:
    """Coarser grids for channels whose weights are so small beside their bias that the bias would leave 31 bits."""
    needed = np.abs(bias.astype(np.float64)) / grid.scale / 2**30
    if weight is None or form.group_size is not None or form.per_tensor or (needed <= form.scale[:, 0]).all():
        return form
    scale = np.maximum(form.scale, needed[:, None]).astype(np.float32)
    ratio = form.scale / scale
    rows = np.rint(form.rows() * ratio).astype(form.codes.dtype)
    moved = (form.shape[form.axis], *(n for i, n in enumerate(form.shape) if i != form.axis))
    return dataclasses.replace(form, codes=np.moveaxis(rows.reshape(moved), 0, form.axis), scale=scale)


def layer_records(
    before: Model,
    after: Model,
    plan: Plan,
    forms: Mapping[str, WeightForm],
    smoothed: Mapping[str, Smoothed] | None = None,
    chains: Mapping[str, LowRank] | None = None,
) -> list[LayerRecord]:
    """One record a layer of the original, changed or skipped. chains: what runs beside layers."""
    records = []
    smooth = {name for entry in (smoothed or {}).values() for name in entry.layers}
    for layer in before.graph.layers():
        new = after.graph.by_name.get(layer.name)
        form = str(forms[layer.name]) if layer.name in plan.changed else "dense"
        if layer.name in plan.static or layer.name in plan.dynamic:
            form += " a8" if layer.name in plan.static else " a8 dynamic"
            form += " smoothed" if layer.name in smooth else ""
        beside: list[Node] = []
        if chains and layer.name in chains and layer.name in plan.changed:
            form += f" + {chains[layer.name]}"
            beside = parts(after.graph, layer.name)
        size = stored_bytes(new, *beside) if new else None
        records.append(LayerRecord.of(layer, form, size, plan.skipped.get(layer.name)))
    return records
