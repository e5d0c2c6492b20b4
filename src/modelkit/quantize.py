"""Quantisation of a whole model: which layers, which grids, in which order. The arithmetic is in `algorithms/quantize`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .agreement import relative_error
from .analysis.placement import place_grids
from .core.errors import ModelkitError
from .core.forms import Array, DynamicGrid, Grid, Quantized, WeightForm
from .core.graph import Graph, Node
from .core.lowrank import LowRank, parts
from .core.model import EdgeGrid, Model
from .core.passes import Pass
from .core.selection import Selection
from .smooth import Smoothed

Activations = Literal["none", "dynamic", "static"]


@dataclass
class LayerRecord:
    """What became of one layer, as the report has it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    form: str
    bytes_before: int
    bytes_after: int
    error: float | None = None
    skipped: str | None = None

    @classmethod
    def of(cls, layer: Node, form: str, bytes_after: int | None = None, skipped: str | None = None) -> LayerRecord:
        """Of a layer of the original. Without bytes_after: it takes as many as before."""
        shape = layer.parameters["weight"].shape if "weight" in layer.parameters else ()
        size = stored_bytes(layer)
        return cls(layer.name, layer.kind, shape, form, size, size if bytes_after is None else bytes_after, skipped=skipped)


def stored_bytes(*nodes: Node) -> int:
    """Of all parameters of these nodes."""
    return sum(parameter.bytes for node in nodes for parameter in node.parameters.values())


def planned_records(graph: Graph, skipped: Mapping[str, str], form: str) -> list[LayerRecord]:
    """What a dry run shows, where the size of a layer is only known when it is changed: `form`, or why it stays as it is."""
    return [
        LayerRecord.of(layer, "dense" if layer.name in skipped else form, skipped=skipped.get(layer.name))
        for layer in graph.layers()
    ]


@dataclass
class Plan:
    """What will be done, settled before any work: the layers with a new form and how their inputs are quantised, and the
    layers left alone with the reason."""

    static: list[str] = field(default_factory=list)
    dynamic: list[str] = field(default_factory=list)
    weight_only: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def changed(self) -> list[str]:
        return [*self.static, *self.dynamic, *self.weight_only]

    @property
    def weights_only(self) -> Plan:
        """The same layers, with activations in floating point."""
        return Plan(weight_only=self.changed, skipped=self.skipped)

    def without(self, left: Mapping[str, str]) -> Plan:
        """The same plan with these layers left alone, each for the given reason."""

        def keep(names: list[str]) -> list[str]:
            return [name for name in names if name not in left]

        return Plan(keep(self.static), keep(self.dynamic), keep(self.weight_only), {**self.skipped, **left})


def make_plan(model: Model, chosen: Pass, activations: Activations, selection: Selection) -> Plan:
    """Sort the layers. Raises ModelkitError when none can be changed."""
    plan = Plan()
    for layer in model.graph.layers():
        reason = selection.reason(layer.name) or chosen.skip(layer)
        if reason is None:
            mode = _mode(layer, activations)
            reason = model.can_lower(layer.name, _sample_form(chosen), DynamicGrid() if mode == "dynamic" else None)
        if reason is not None:
            plan.skipped[layer.name] = reason
        else:
            {"static": plan.static, "dynamic": plan.dynamic, "none": plan.weight_only}[mode].append(layer.name)
    if not plan.changed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(plan.skipped.items())[:5])
        raise ModelkitError(
            f"No layer can be quantised ({reasons or 'the model has no linear, convolution or embedding layer'}).",
            "See `modelkit inspect` for its layers; widen --only / --ignore if you gave them.",
        )
    return plan


def _mode(layer: Node, activations: Activations) -> Activations:
    if layer.kind == "linear":
        return activations
    if layer.kind == "conv" and activations == "static" and not layer.attributes.get("transposed"):
        return "static"
    return "none"  # no runtime has an integer kernel for it: smaller, not faster


def _sample_form(chosen: Pass) -> Quantized:
    """A form as the pass will make, without values: enough to ask an adapter whether it can lower it."""
    options = chosen.options if hasattr(chosen, "options") else None
    symmetric = getattr(options, "is_symmetric", True)
    codes = np.empty((0, 0), np.int8 if symmetric else np.uint8)
    zero_point = None if symmetric else np.empty((0, 0), np.uint8)
    return Quantized(
        codes, np.empty((0, 0), np.float32), getattr(options, "bits", 8), zero_point, getattr(options, "group", None)
    )


def finite_weight(model: Model, name: str) -> Array:
    """The weight of a layer, dense. Raises ModelkitError where it holds NaN, or values that are none in float32."""
    weight = model.parameter(name, "weight")
    if weight is None:
        raise ModelkitError(f"The weight of {name} can't be read.", "Report this with the model: its layer list said otherwise.")
    if not np.isfinite(weight.astype(np.float32, copy=False)).all():
        raise ModelkitError(
            f"The weight of {name} holds NaN or infinity.", "Repair the model, or leave the layer out with --ignore."
        )
    return weight


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


def weight_error(weight: Array, form: WeightForm, beside: LowRank | None = None) -> float:
    """‖w − ŵ‖ / ‖w‖. beside: what runs beside the layer."""
    decoded = form.decode()
    return relative_error(weight, decoded if beside is None else decoded + beside.decode())
