"""`quantize`, as a function: from an opened model to a published file and the facts for its report."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, correct
from .agreement import collapsed, compare, comparison_sample, feeds_of, how_far, warn_if_collapsed
from .analysis.norms import fold_norms
from .analysis.placement import place_grids
from .analysis.smoothing import smoothable
from .analysis.synthetic import fixed_batch
from .calibrate import calibration_batch, collect, grids_from, range_method
from .choose import REASON, left_alone, slower_in_torch
from .core.errors import AccuracyWarning, ModelkitError, SizeWarning, SkippedWarning, SpeedWarning
from .core.forms import Grid
from .core.graph import Graph
from .core.lowrank import LowRank
from .core.model import Feeds, Model
from .core.passes import Pass, corrects
from .core.selection import Selection
from .core.targets import Target
from .describe import total_bytes
from .publish import outputs_of, publish
from .quantize import (
    Activations,
    LayerRecord,
    Plan,
    apply,
    compress_weights,
    layer_records,
    make_plan,
    weight_error,
)
from .smooth import Smoothed, smooth

if TYPE_CHECKING:
    from .data import Dataset

Stage = Callable[..., AbstractContextManager[Any]]  # a name and, where it is known, a number of parts


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
class Result:
    """The opened result, with what the report needs of the way there. speedup: how many times as fast as the original, where that
    was measured."""

    model: Model
    layers: list[LayerRecord]
    seconds: float
    agreement: dict[str, float]
    speedup: float | None = None

    def record(self) -> dict[str, Any]:
        """What the report's record of the pass says of the work itself."""
        layers = [asdict(layer) for layer in self.layers]
        speed = {} if self.speedup is None else {"speedup": self.speedup}
        return {"seconds": round(self.seconds, 3), "layers": layers, **speed}


def quantize(
    model: Model,
    wanted: Quantization,
    plan: Plan,
    calibration: Dataset | None,
    out: Path,
    stage: Stage,
    deliver: Callable[[Model], Model] | None = None,
) -> Result:
    """Carry out `plan` on a copy of `model`, write it to `out`, and say what it did to every layer. `deliver` turns the result
    into another format before it is written."""
    started = time.perf_counter()
    base = model.copy()
    fold_norms(base)
    sample = comparison_sample(base, calibration, wanted.seed)
    grids: dict[str, Grid] = {}
    smoothed: dict[str, Smoothed] = {}
    if plan.static:
        assert calibration is not None
        placement = place_grids(base.graph, set(plan.static))
        candidates = smoothable(base.graph, placement) if wanted.smooth else {}
        with stage("calibrating"):
            batches = feeds_of(base, calibration, calibration_batch(base.graph))
            histograms, rows = collect(base, batches, placement.readers, candidates)
            signed = wanted.target.signed_activations
            grids = grids_from(histograms, wanted.ranges, placement.same_grid, signed)
            smoothed = smooth(base, candidates, rows, wanted.chosen, wanted.ranges, signed)
            del histograms, rows
    with stage("quantising weights"):
        forms = compress_weights(base, wanted.chosen, plan, smoothed)
    chosen: Any = wanted.chosen
    chains: dict[str, LowRank] = {}
    if wanted.corrects:
        with stage("correcting"):
            chains = correct.corrections(base, chosen, forms, calibration)

    def build(variant: Plan) -> Model:
        changed = base.copy()
        correct.add(changed, chosen, chains)
        apply(changed, variant, forms, grids, smoothed)
        if variant.static or variant.dynamic:
            changed.provenance.target = wanted.target.name
        return changed

    if wanted.measure and _can_be_measured(base, plan, wanted.target, deliver is None, calibration is not None):
        with stage("measuring which layers gain"):
            plan = _keep_what_gains(base, plan, build, sample, wanted)
        if smoothed and not plan.static:  # nothing divides those weights' inputs any more
            forms, smoothed = compress_weights(base, wanted.chosen, plan), {}
    result = build(plan)
    found, errors, agreement = compare(base, result, plan.changed, sample)
    if wanted.automatic and (plan.static or plan.dynamic) and collapsed(agreement):
        with_activations = forms, smoothed
        if smoothed:
            forms, smoothed = compress_weights(base, wanted.chosen, plan.weights_only), {}
        other = build(plan.weights_only)
        compared = compare(base, other, plan.changed, sample)
        if collapsed(compared[2]):
            forms, smoothed = with_activations
        else:
            _warn_of_floats(agreement, from_data=calibration is not None)
            plan, result, (found, errors, agreement) = plan.weights_only, other, compared
    if calibration is None:
        errors = {
            name: weight_error(weight, forms[name], chains.get(name))
            for name in plan.changed
            if (weight := base.parameter(name, "weight")) is not None
        }
    records = layer_records(model, result, plan, forms, smoothed, chains)
    for record in records:
        record.error = errors.get(record.name)
    result.provenance.history = [*model.provenance.history, _history(wanted)]
    if deliver is not None:
        with stage("converting"):
            result = deliver(result)
        found = outputs_of(result, sample)
    with stage("writing and checking"):
        published = publish(result, out, sample, found)
    _warn(model, published, plan, wanted, agreement, from_data=calibration is not None)
    return Result(published, records, time.perf_counter() - started, agreement)


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


def _keep_what_gains(base: Model, plan: Plan, build: Callable[[Plan], Model], sample: Feeds, wanted: Quantization) -> Plan:
    one = {name: array[:1] for name, array in sample.items()} if fixed_batch(base.graph) is None else sample
    if base.family == "onnx":
        left = left_alone(base, plan, build, one, wanted.threads, seconds=0.25)
        tried = plan.static
    else:
        left = slower_in_torch(base, plan, one, wanted.target.name, wanted.threads)
        tried = [*plan.static, *plan.dynamic]
    if left and set(left) == set(tried):
        slower = "not faster" if base.family == "onnx" else "and slower, as PyTorch decodes them at every run"
        warnings.warn(
            SpeedWarning(
                "8-bit arithmetic was measured slower than the original here, so only the weights are stored in 8 bits: "
                f"the file is smaller, {slower}. Force 8-bit arithmetic with --no-measure."
            ),
            stacklevel=2,
        )
        dynamic = [name for name in plan.dynamic if name not in left]
        return Plan(weight_only=[*tried, *plan.weight_only], dynamic=dynamic, skipped=plan.skipped)
    return plan.without(left)


def _sizes_known(graph: Graph) -> bool:
    """Whether the inputs have one size, but for the batch: how many rows a layer gets decides what it gains."""
    return all(isinstance(size, int) for spec in graph.inputs for size in spec.dims[1:])


def _layers(count: int) -> str:
    return "1 layer was" if count == 1 else f"{count} layers were"


def _can_be_measured(base: Model, plan: Plan, target: Target, stays: bool, has_data: bool) -> bool:
    """Whether times taken here say which layers gain. stays: in the format's family. In PyTorch they must be of a machine of the
    target's kind, the layers' sizes must be known, and convolutions, which it only simulates, tell of another runtime."""
    if base.family == "onnx":
        return bool(plan.static)
    if not stays or any(base.graph.by_name[name].kind == "conv" for name in plan.static):
        return False
    return _runs_here(target) and (has_data or _sizes_known(base.graph))


def _runs_here(target: Target) -> bool:
    """Whether this machine is of the kind that the result is laid out for."""
    if target.name == "cuda":
        import torch

        return torch.cuda.is_available()
    from .bench.cpu import target_isa

    return target.name == target_isa()


def _warn_of_floats(agreement: dict[str, float], from_data: bool) -> None:
    otherwise = "" if from_data else " Give --calib DATA to have them tested on it."
    warnings.warn(
        AccuracyWarning(
            f"With 8-bit activations the outputs {how_far(agreement, from_data)}, so only the weights are stored in "
            f"8 bits: the file is smaller, not faster. Force 8-bit activations with --scheme W8A8.{otherwise}"
        ),
        stacklevel=3,
    )


def _history(wanted: Quantization) -> dict[str, Any]:
    return {"pass": wanted.name, "options": wanted.options(), "modelkit": __version__}


def _warn(before: Model, after: Model, plan: Plan, wanted: Quantization, agreement: dict[str, float], from_data: bool) -> None:
    old, new = total_bytes(before.files()), total_bytes(after.files())
    if new >= old:
        warnings.warn(SizeWarning(f"The result is not smaller: {new} bytes instead of {old}. Try fewer --bits."), stacklevel=2)
    warn_if_collapsed(
        agreement,
        from_data,
        "Use more --bits",
        "smaller --group-size",
        "--algorithm mse",
    )
    alone = [name for name, reason in plan.skipped.items() if reason == REASON]
    if alone:
        warnings.warn(
            SkippedWarning(f"{_layers(len(alone))} measured faster in floating point and left alone: {', '.join(alone[:5])}."),
            stacklevel=2,
        )
    if after.family == "torch" and any(before.graph.by_name[n].kind == "conv" for n in plan.static):
        warnings.warn(
            SpeedWarning(
                "PyTorch has no 8-bit kernels for convolutions, and computes theirs in floating point, more slowly than before: "
                "write a .onnx (-o NAME.onnx) to run them fast."
            ),
            stacklevel=2,
        )
    if (
        wanted.activations != "static"
        and wanted.bits == 8
        and any(before.graph.by_name[n].kind == "conv" for n in plan.weight_only)
    ):
        warnings.warn(
            SpeedWarning(
                "Convolutions are smaller but not faster: 8-bit arithmetic needs the ranges of activations. Give --calib DATA."
            ),
            stacklevel=2,
        )
