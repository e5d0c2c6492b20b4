"""What was asked of `quantize`, and what will be done: settled before any work on tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from modelkit.calibrate import range_method
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import DynamicGrid, Quantized
from modelkit.core.graph import Node
from modelkit.core.model import Model
from modelkit.core.passes import Pass, corrects
from modelkit.core.selection import Selection, nothing_left
from modelkit.core.targets import Target

Activations = Literal["none", "dynamic", "static"]


@dataclass(frozen=True)
class Quantization:
    """What was asked for. `name` is the pass's ("quantize.rtn"); `smooth` allows spreading outliers of activations over weights,
    `measure` choosing layers by measured time, `automatic` floating-point activations where 8 bits of them break the model."""

    name: str
    chosen: Pass
    activations: Activations
    target: Target
    selection: Selection = field(default_factory=Selection)
    ranges: str = "mse"
    smooth: bool = True
    measure: bool = True
    automatic: bool = False
    threads: int | None = None
    seed: int = 0

    @property
    def bits(self) -> int:
        return int(getattr(self.chosen.options, "bits", 8)) if hasattr(self.chosen, "options") else 8

    @property
    def corrects(self) -> bool:
        """Whether something is to run beside the layers (`core.passes.CorrectingPass`)."""
        return corrects(self.chosen)

    def options(self) -> dict[str, Any]:
        """As the report and the file's history keep them."""
        own = asdict(self.chosen.options) if hasattr(self.chosen, "options") else {}
        extra: dict[str, Any] = {"activations": self.activations, "target": self.target.name}
        if self.activations == "static":
            extra["calibration"], extra["smooth"] = self.ranges, self.smooth
        return {**own, **extra}


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


def plan_quantization(model: Model, wanted: Quantization) -> Plan:
    """Every check that needs no work on tensors. Raises ModelkitError."""
    if wanted.activations != "none" and wanted.bits != 8:
        raise ModelkitError(
            f"Weights of {wanted.bits} bits can't be multiplied with 8-bit activations: no runtime here has such kernels.",
            "Use --bits 8, or --activations none.",
        )
    if wanted.activations == "static" and wanted.corrects:
        raise ModelkitError(
            f"{wanted.name} runs a correction in floating point beside each layer, which has no place in integer arithmetic.",
            "Use --activations none or dynamic.",
        )
    wanted.selection.check([layer.name for layer in model.graph.layers()])
    if wanted.activations == "static":
        range_method(wanted.ranges)
    return make_plan(model, wanted.chosen, wanted.activations, wanted.selection)


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
        raise nothing_left("No layer can be quantised", plan.skipped, "linear, convolution or embedding")
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
