"""`quantize`, as a function: from an opened model to a published file and the facts for its report."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from modelkit.agreement import collapsed, compare, comparison_batches, feeds_of, how_far, warn_if_collapsed, weight_error
from modelkit.analysis.norms import fold_norms
from modelkit.analysis.placement import place_grids
from modelkit.analysis.products import is_one_product
from modelkit.analysis.smoothing import smoothable
from modelkit.calibrate import calibration_batch, collect, grids_from
from modelkit.core.errors import AccuracyWarning, SizeWarning, SkippedWarning, SpeedWarning
from modelkit.core.forms import Grid, WeightForm
from modelkit.core.lowrank import LowRank
from modelkit.core.model import Model
from modelkit.describe import total_bytes
from modelkit.publish import deliver, family_of
from modelkit.result import Result, Stage

from . import corrections
from .gains import REASON, can_be_measured, keep_what_gains
from .layers import apply, compress_weights, layer_records
from .planning import Plan, Quantization
from .smoothing import Smoothed, smooth

if TYPE_CHECKING:
    from modelkit.data import Dataset


def quantize(model: Model, wanted: Quantization, plan: Plan, calibration: Dataset | None, out: Path, stage: Stage) -> Result:
    """Carry out `plan` on a copy of `model`, write it to `out` in its format, and say what it did to every layer."""
    started = time.perf_counter()
    base = model.copy()
    fold_norms(base)
    samples = comparison_batches(base, calibration, wanted.seed)
    parts = _made(base, wanted, plan, calibration, stage)
    if wanted.measure and can_be_measured(base, plan, wanted.target, family_of(out) == base.family, calibration is not None):
        with stage("measuring which layers gain"):
            plan = keep_what_gains(base, plan, parts.build, samples[0], wanted)
        parts = parts.fitting(plan)
    result = parts.build(plan)
    found, errors, agreement = compare(base, result, plan.changed, samples)
    if wanted.automatic and (plan.static or plan.dynamic) and collapsed(agreement):
        in_floats = plan.weights_only
        others = parts.fitting(in_floats)
        other = others.build(in_floats)
        compared = compare(base, other, in_floats.changed, samples)
        if not collapsed(compared[2]):
            _warn_of_floats(agreement, from_data=calibration is not None)
            parts, plan, result, (found, errors, agreement) = others, in_floats, other, compared
    if calibration is None:
        errors = parts.weight_errors(plan)
    records = layer_records(model, result, plan, parts.forms, parts.smoothed, parts.chains)
    for record in records:
        record.error = errors.get(record.name)
    published = deliver(model, result, wanted, out, stage, samples[0], found)
    _warn(model, published, plan, wanted, agreement, from_data=calibration is not None)
    return Result(published, records, time.perf_counter() - started, agreement)


@dataclass(frozen=True)
class _Parts:
    """What every variant of the result is built of, beside the plan that names its layers. Weights that read an activation of
    `smoothed` are divided by its factor."""

    base: Model
    wanted: Quantization
    grids: Mapping[str, Grid]
    smoothed: Mapping[str, Smoothed]
    forms: Mapping[str, WeightForm]
    chains: Mapping[str, LowRank]

    def build(self, plan: Plan) -> Model:
        changed, chosen = self.base.copy(), cast(Any, self.wanted.chosen)
        corrections.add(changed, chosen, self.chains)
        apply(changed, plan, self.forms, self.grids, self.smoothed)
        if plan.static or plan.dynamic:
            changed.provenance.target = self.wanted.target.name
        return changed

    def fitting(self, plan: Plan) -> _Parts:
        """Those for a plan that may have no activations on grids any more, so that nothing is there to smooth."""
        if plan.static or not self.smoothed:
            return self
        return dataclasses.replace(self, smoothed={}, forms=compress_weights(self.base, self.wanted.chosen, plan))

    def weight_errors(self, plan: Plan) -> dict[str, float]:
        return {
            name: weight_error(weight, self.forms[name], self.chains.get(name))
            for name in plan.changed
            if (weight := self.base.parameter(name, "weight")) is not None
        }


def _made(base: Model, wanted: Quantization, plan: Plan, calibration: Dataset | None, stage: Stage) -> _Parts:
    """Ranges of activations, forms of weights, and what runs beside them."""
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
    with stage("quantising weights"):
        forms = compress_weights(base, wanted.chosen, plan, smoothed)
    chains: dict[str, LowRank] = {}
    if wanted.corrects:
        chosen: Any = wanted.chosen
        with stage("correcting"):
            chains = corrections.corrections(base, chosen, forms, calibration)
    return _Parts(base, wanted, grids, smoothed, forms, chains)


def _warn_of_floats(agreement: dict[str, float], from_data: bool) -> None:
    otherwise = "" if from_data else " Give --calib DATA to have them tested on it."
    warnings.warn(
        AccuracyWarning(
            f"With 8-bit activations the outputs {how_far(agreement, from_data)}, so only the weights are stored in "
            f"8 bits: the file is smaller, not faster. Force 8-bit activations with --scheme W8A8.{otherwise}"
        ),
        stacklevel=3,
    )


def _layers(count: int) -> str:
    return "1 layer was" if count == 1 else f"{count} layers were"


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
    if after.family == "torch" and not all(is_one_product(before.graph.by_name[name]) for name in plan.static):
        warnings.warn(
            SpeedWarning(
                "PyTorch has no 8-bit arithmetic for convolutions in groups, and simulates it, more slowly than before: "
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
