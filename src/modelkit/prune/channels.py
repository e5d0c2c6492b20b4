"""`prune --pattern channel`, as a function: from an opened model to a published smaller one and the facts for its report."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit.agreement import compare, comparison_batches, feeds_of, warn_if_collapsed
from modelkit.analysis.channels import channel_groups
from modelkit.analysis.macs import total_macs
from modelkit.analysis.memory import walk_batch
from modelkit.analysis.norms import fold_norms
from modelkit.analysis.widths import check_reachable
from modelkit.calibrate import loss_gradients
from modelkit.core.channels import ChannelGroup, Channels
from modelkit.core.errors import ModelkitError, SkippedWarning
from modelkit.core.graph import Graph
from modelkit.core.model import Feeds, Model
from modelkit.core.pruning import Budget, ChannelPass, Cost, PruningTask
from modelkit.core.selection import Selection, nothing_left
from modelkit.costs import Latency, parameters, warn_if_slower, with_new_biases
from modelkit.publish import deliver
from modelkit.result import LayerRecord, Result, Stage, stored_bytes

if TYPE_CHECKING:
    from modelkit.data import Dataset


@dataclass(frozen=True)
class Pruning:
    """What was asked for. `name` is the pass's ("prune.channel.magnitude")."""

    name: str
    chosen: ChannelPass
    budget: Budget
    round_to: int = 8
    selection: Selection = field(default_factory=Selection)
    seed: int = 0
    threads: int | None = None

    def options(self) -> dict[str, Any]:
        """As the report and the file's history keep them."""
        own = asdict(self.chosen.options) if hasattr(self.chosen, "options") else {}
        return {**own, "pattern": "channel", self.budget.measure: self.budget.value, "round_to": self.round_to}


@dataclass(frozen=True)
class PruningPlan:
    """Settled before any work: the original with its batch norms folded, the task for the pass, and why layers keep all of their
    channels."""

    base: Model
    task: PruningTask
    skipped: dict[str, str]


def plan_pruning(model: Model, wanted: Pruning, calibration: Dataset | None) -> PruningPlan:
    """Every check that needs no work on tensors. Raises ModelkitError when nothing can be pruned, when the budget is out of
    reach, or when the pass needs data and there is none."""
    if wanted.chosen.needs_data and calibration is None:
        raise ModelkitError(
            f"{wanted.name} needs calibration data.", "Give some with --calib DATA, or use --algorithm magnitude."
        )
    names = [layer.name for layer in model.graph.layers()]
    wanted.selection.check(names)
    _check_dense(model)
    base = model.copy()
    fold_norms(base)
    found = channel_groups(base)
    skipped = {name: reason for name, reason in found.frozen.items() if name in names}
    groups = []
    for group in found:
        reason = _reason_against(found.graph, group, wanted.selection)
        if reason is None:
            groups.append(group)
        else:
            skipped.update((slot.node, reason) for slot in group.writers if slot.node in names)
    branches = tuple(b for b in found.branches if all(wanted.selection.reason(name) is None for name in b.layers))
    if not groups:
        raise nothing_left("No channels can be removed", skipped, "linear or convolution")
    channels = dataclasses.replace(found, groups=tuple(groups), branches=branches)
    cost: Cost
    measure = None
    if wanted.budget.measure == "speedup":
        latency = Latency(model, base, wanted.threads, wanted.seed)
        cost, measure = latency, partial(latency.speedup, aim=wanted.budget.value)
        whole = latency.original_ms
    else:
        cost = cost_of(wanted.budget, channels, calibrated=calibration is not None)
        whole = cost(channels.graph)
    task = PruningTask(
        base.copy(),
        channels,
        cost,
        whole * wanted.budget.kept,
        wanted.budget,
        wanted.round_to,
        None if calibration is None else _batches(model, calibration),
        wanted.seed,
        _fixed(channels, wanted.selection, names),
        measure,
        None if calibration is None else loss_gradients(base, calibration, wanted.seed),
    )
    if not wanted.chosen.removes_branches:
        check_reachable(task)
    return PruningPlan(base, task, skipped)


def prune(
    model: Model,
    wanted: Pruning,
    plan: PruningPlan,
    calibration: Dataset | None,
    out: Path,
    stage: Stage,
) -> Result:
    """Carry out `plan`, write the result to `out`, in the format that it names, and say what became of every layer."""
    started = time.perf_counter()
    with stage("pruning channels"):
        result = wanted.chosen.prune(plan.task)
    left = plan.task.cost(result.graph)
    speedup = None
    if plan.task.measure is not None:
        with stage("measuring"):
            speedup = plan.task.measure(result)
        why = ": the rest is not spent in layers that can be pruned, or the machine was busy"
        warn_if_slower(speedup, wanted.budget.value, why)
    elif left > plan.task.limit * (1 + 1e-9):
        raise ModelkitError(
            f"{wanted.name} left {left:g} where {wanted.budget} allows {plan.task.limit:g}.",
            "Use another --algorithm, and report this with the model.",
        )
    samples = comparison_batches(model, calibration, wanted.seed)
    records = layer_records(model, result, plan.skipped)
    if speedup is not None and all(record.skipped is not None for record in records):
        enough = f"with its batch norms folded the model is {speedup:.2f} times as fast already"
        warnings.warn(SkippedWarning(f"All channels stay: {enough}. Ask for more to prune it."), stacklevel=2)
    same = [record.name for record in records if record.skipped is None and _same_output(plan.base, result, record.name)]
    found, errors, agreement = compare(plan.base, result, same, samples)
    for record in records:
        record.error = errors.get(record.name)
    published = deliver(model, result, wanted, out, stage, samples[0], found)
    warn_if_collapsed(
        agreement,
        calibration is not None,
        "Prune less",
        "recover it with `modelkit recover`",
    )
    return Result(published, records, time.perf_counter() - started, agreement, speedup)


def cost_of(budget: Budget, channels: Channels, calibrated: bool) -> Cost:
    """What the budget counts, as a function of a graph. With calibration data layers get new biases. Raises ModelkitError where
    it can't be counted."""
    if budget.measure == "params":
        return with_new_biases(channels.graph) if calibrated else parameters
    if budget.measure == "macs":
        if total_macs(channels.graph) is None:
            raise ModelkitError(
                "The model's MACs can't be counted: some shapes are unknown.", "Give them with --input, or use --params."
            )
        return lambda graph: float(total_macs(graph) or 0)
    if budget.measure == "sparsity":
        writers = {(slot.node, slot.axis) for group in channels for slot in group.writers if slot.role == "weight"}

        def count(graph: Graph) -> float:
            kept = (node for node in graph.nodes if node.is_layer)
            return float(
                sum(node.parameters["weight"].shape[axis] for node in kept for name, axis in writers if name == node.name)
            )

        return count
    raise ValueError(f"{budget} is measured, not counted")


def _check_dense(model: Model) -> None:
    for node in model.graph.nodes:
        for parameter in node.parameters.values():
            if parameter.form != "dense":
                raise ModelkitError(
                    f"{node.name} is stored as {parameter.form}.", "Prune the dense model first, and quantise the result."
                )


def _reason_against(graph: Graph, group: ChannelGroup, selection: Selection) -> str | None:
    """Why a group is left alone: one of its layers is to be ignored, or a layer that writes it was not named."""
    for name in group.nodes:
        if graph.by_name[name].is_layer and selection.reason(name) == "ignored by --ignore":
            return (
                "ignored by --ignore"
                if any(slot.node == name for slot in group.writers)
                else f"{name}, which reads it, is ignored"
            )
    reasons = [selection.reason(slot.node) for slot in group.writers if graph.by_name[slot.node].is_layer]
    return next((reason for reason in reasons if reason is not None), None)


def _fixed(channels: Channels, selection: Selection, names: Iterable[str]) -> frozenset[str]:
    """Layers that were excluded, and are in no group that may be pruned."""
    changed = {name for group in channels for name in group.nodes}
    return frozenset(name for name in names if selection.reason(name) is not None and name not in changed)


def _batches(model: Model, calibration: Dataset) -> Callable[[], Iterable[Feeds]]:
    return lambda: feeds_of(model, calibration, walk_batch(model.graph))


def layer_records(before: Model, after: Model, skipped: dict[str, str]) -> list[LayerRecord]:
    """One record a layer of the original: its weight's new shape, or why neither its outputs nor its inputs got fewer."""
    records = []
    for layer in before.graph.layers():
        new = after.graph.by_name.get(layer.name)
        if new is None:
            records.append(LayerRecord.of(layer, "removed", 0))
            continue
        sizes = {role: p.shape for role, p in new.parameters.items()}
        same = all(sizes.get(role) == p.shape for role, p in layer.parameters.items())
        form = "dense" if same else "dense " + "×".join(map(str, sizes.get("weight", ())))
        reason = (skipped.get(layer.name) or "all of its channels were worth keeping") if same else None
        records.append(LayerRecord.of(layer, form, stored_bytes(new), reason))
    return records


def _same_output(before: Model, after: Model, name: str) -> bool:
    edges = [model.graph.by_name[name].outputs[0] for model in (before, after) if name in model.graph.by_name]
    return len(set(edges)) == 1 and len(edges) == 2 and before.graph.shape(edges[0]) == after.graph.shape(edges[0])
