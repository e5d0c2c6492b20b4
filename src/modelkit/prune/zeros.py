"""`prune` for patterns without structure, as a function: from an opened model to a published file with zeros in its weights."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.agreement import compare, comparison_batches, feeds_of, warn_if_collapsed, weight_error
from modelkit.analysis.memory import first_batches, walk_batch
from modelkit.calibrate import input_moments
from modelkit.core.errors import ModelkitError, SizeWarning, SpeedWarning
from modelkit.core.forms import Sparse, WeightForm
from modelkit.core.graph import Node
from modelkit.core.model import Model, finite_weight
from modelkit.core.passes import SparsityPass
from modelkit.core.selection import Selection, nothing_left
from modelkit.core.statistics import InputMoments
from modelkit.describe import total_bytes
from modelkit.publish import deliver
from modelkit.quantize.layers import layer_records
from modelkit.quantize.planning import Plan
from modelkit.result import Result, Stage

if TYPE_CHECKING:
    from modelkit.data import Dataset

_FACTORING = 28  # bytes for each entry of a Hessian while it is inverted


@dataclass(frozen=True)
class Sparsification:
    """What was asked for. `name` is the pass's ("prune.sparsegpt")."""

    name: str
    chosen: SparsityPass
    selection: Selection = field(default_factory=Selection)
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """As the report and the file's history keep them."""
        return asdict(self.chosen.options) if hasattr(self.chosen, "options") else {}


def plan_sparsification(model: Model, wanted: Sparsification, calibrated: bool = True) -> Plan:
    """Every check that needs no work on tensors: the layers that will change, and the others with the reason. Raises
    ModelkitError when none can."""
    if not calibrated and wanted.chosen.needs != "nothing":
        raise ModelkitError(
            f"{wanted.name} needs calibration data.", "Give some with --calib DATA, or use --algorithm magnitude."
        )
    layers = list(model.graph.layers())
    wanted.selection.check([layer.name for layer in layers])
    tables = Counter(layer.parameters["weight"].stored for layer in layers if layer.kind == "embedding" and layer.parameters)
    plan = Plan()
    for layer in layers:
        reason = wanted.selection.reason(layer.name) or wanted.chosen.skip(layer)
        if reason is None and layer.parameters["weight"].stored in tables:
            reason = "its weight is a table as well"
        if reason is None:
            empty = Sparse(np.empty(0, bool), np.empty(0, np.float32))
            reason = model.can_lower(layer.name, empty) or _too_big(layer, wanted)
        if reason is None:
            plan.weight_only.append(layer.name)
        else:
            plan.skipped[layer.name] = reason
    if not plan.changed:
        raise nothing_left("No layer can be pruned", plan.skipped, "linear or convolution", ", or choose another --pattern")
    return plan


def _too_big(layer: Node, wanted: Sparsification) -> str | None:
    if wanted.chosen.needs != "gram":
        return None
    import psutil

    weight = layer.parameters["weight"]
    width = weight.size // max(weight.shape[0], 1)
    needed = _FACTORING * width * width
    return f"its Hessian takes {needed / 2**30:.0f} GiB of memory" if needed > psutil.virtual_memory().available else None


def sparsify(
    model: Model,
    wanted: Sparsification,
    plan: Plan,
    calibration: Dataset | None,
    out: Path,
    stage: Stage,
) -> Result:
    """Carry out `plan` on a copy of `model`, write it to `out` in its format, and say what it did to every layer."""
    started = time.perf_counter()
    samples = comparison_batches(model, calibration, wanted.seed)
    result = model.copy()
    with stage("pruning weights"):
        forms = _walked(result, wanted, plan, calibration) if calibration is not None else _data_free(result, wanted, plan)
    found, errors, agreement = compare(model, result, plan.changed, samples)
    if calibration is None:
        errors = {name: weight_error(finite_weight(model, name), forms[name]) for name in plan.changed}
    records = layer_records(model, result, plan, forms)
    for record in records:
        record.error = errors.get(record.name)
    published = deliver(model, result, wanted, out, stage, samples[0], found)
    _warn(model, published, wanted, agreement, from_data=calibration is not None)
    return Result(published, records, time.perf_counter() - started, agreement)


def _data_free(model: Model, wanted: Sparsification, plan: Plan) -> dict[str, WeightForm]:
    layers = [model.graph.by_name[name] for name in plan.changed]
    forms: dict[str, WeightForm] = {}
    for names in _tied(layers).values():
        forms.update(_set(model, wanted, [layer for layer in layers if layer.name in names], None))
    return forms


def _walked(model: Model, wanted: Sparsification, plan: Plan, calibration: Dataset) -> dict[str, WeightForm]:
    """Layer by layer, with statistics of its inputs on the calibration data: those of the original model or, if the pass is
    `sequential`, what the already pruned layers before it give."""
    graph = model.graph
    layers = [graph.by_name[name] for name in plan.changed]
    if wanted.chosen.needs == "nothing":
        return _data_free(model, wanted, plan)
    tied = _tied(layers)
    batches = first_batches(feeds_of(model, calibration, walk_batch(model.graph)), model.graph, walks=1)
    forms: dict[str, WeightForm] = {}
    sequential = bool(getattr(getattr(wanted.chosen, "options", None), "sequential", False))
    walked = model if sequential else model.copy()
    for layer, moments in input_moments(walked, batches, layers, wanted.chosen.needs == "gram", done=forms):
        same = tied[layer.parameters["weight"].stored]
        forms.update(_set(model, wanted, [other for other in layers if other.name in same], moments))
    return forms


def _tied(layers: list[Node]) -> dict[tuple[str, ...], list[str]]:
    """The layers by the tensors that their weight is stored in: those that share one are pruned once, where it is met first."""
    tied: dict[tuple[str, ...], list[str]] = {}
    for layer in layers:
        tied.setdefault(layer.parameters["weight"].stored, []).append(layer.name)
    return tied


def _set(model: Model, wanted: Sparsification, layers: list[Node], moments: InputMoments | None) -> dict[str, WeightForm]:
    """Prune the weight that these layers share."""
    form = wanted.chosen.compress(layers[0], finite_weight(model, layers[0].name), moments)
    for layer in layers:
        model.set_parameter(layer.name, "weight", form)
    return {layer.name: form for layer in layers}


def _warn(before: Model, after: Model, wanted: Sparsification, agreement: dict[str, float], from_data: bool) -> None:
    old, new = total_bytes(before.files()), total_bytes(after.files())
    if new >= old:
        warnings.warn(
            SizeWarning(f"The result is not smaller: {new} bytes instead of {old}. Layers this small gain nothing."), stacklevel=2
        )
    warn_if_collapsed(
        agreement,
        from_data,
        "Prune less",
        "recover it with `modelkit recover`",
    )
    slower = "torch unpacks its weights at every run, which makes it slower" if after.family == "torch" else "not faster"
    message = f"The file is smaller, {slower}: processors multiply zeros like other numbers. For speed, use --pattern channel."
    if wanted.options().get("pattern") == "2:4" and after.family == "torch":
        message += " NVIDIA GPUs have kernels for 2:4 in half precision: see `bench --device cuda --runtime compile`."
    warnings.warn(SpeedWarning(message), stacklevel=2)
