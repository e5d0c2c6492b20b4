"""Which layers gain from integer arithmetic, settled by measurement: a kernel's time depends on shapes, on neighbours and on the
processor in ways no rule foresees. Layers that lose are left alone.

ONNX Runtime fuses neighbours, so whole variants of a model are timed in it; PyTorch runs operator by operator, so each layer is.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from statistics import median

from modelkit.analysis.products import is_one_product
from modelkit.analysis.synthetic import fixed_batch
from modelkit.core.errors import SpeedWarning
from modelkit.core.graph import Graph
from modelkit.core.model import Feeds, Model
from modelkit.core.targets import Target

from .planning import Plan, Quantization

REASON = "measured faster in floating point"
UNAVAILABLE = "PyTorch has no 8-bit arithmetic for convolutions of that kind"
_GAIN = 0.97  # a variant must take at most this share of the time of a simpler one: less is noise
_CUTS = 4  # prefixes tried
_SLOW_MS = 400.0  # a run that takes longer is not searched, only held against the original
_LONG_MS, _FEW = 5.0, 3  # one that takes longer than this is searched less: a small gain is not worth the wait

Build = Callable[[Plan], Model]
Variant = frozenset[str] | None  # the layers left alone; None: the original model
Times = dict[Variant, list[float]]  # milliseconds, one figure a round


def can_be_measured(base: Model, plan: Plan, target: Target, stays: bool, has_data: bool) -> bool:
    """Whether times taken here say which layers gain. stays: in the format's family. In PyTorch they must be of a machine of the
    target's kind, and the layers' sizes must be known."""
    if base.family == "onnx":
        return bool(plan.static)
    return stays and _runs_here(target) and (has_data or _sizes_known(base.graph))


def keep_what_gains(base: Model, plan: Plan, build: Build, sample: Feeds, wanted: Quantization) -> Plan:
    """The plan without the layers that are faster in floating point; where those are all, with only weights in 8 bits."""
    one = {name: array[:1] for name, array in sample.items()} if fixed_batch(base.graph) is None else sample
    if base.family == "onnx":
        left = left_alone(base, plan, build, one, wanted.threads, seconds=0.25)
        tried = plan.static
    else:
        tried = [*plan.static, *plan.dynamic]
        left = slower_in_torch(base, plan, one, wanted.target.name, wanted.threads)
        if set(left) != set(tried) and not _pays_in_torch(base, plan.without(left), build, one, wanted):
            left = dict.fromkeys(tried, REASON)
    if left and set(left) == set(tried):
        onnx = base.family == "onnx"
        slower = "not faster" if onnx else "and slower, as PyTorch decodes them at every run"
        advice = "" if onnx else "Write a .onnx (-o NAME.onnx): ONNX Runtime often gains where PyTorch does not. "
        warnings.warn(
            SpeedWarning(
                "8-bit arithmetic was measured slower than the original here, so only the weights are stored in 8 bits: "
                f"the file is smaller, {slower}. {advice}Force 8-bit arithmetic with --no-measure."
            ),
            stacklevel=3,
        )
        dynamic = [name for name in plan.dynamic if name not in left]
        return Plan(weight_only=[*tried, *plan.weight_only], dynamic=dynamic, skipped=plan.skipped)
    return plan.without(left)


def left_alone(model: Model, plan: Plan, build: Build, feeds: Feeds, threads: int | None, seconds: float) -> dict[str, str]:
    """The layers of `plan.static` that are better left in floating point, each with the reason.

    Integer kernels lose where there is little work per value and where values are converted: in the first layers (few channels,
    many positions), in grouped convolutions, and in a small head. So variants that leave out the first layers up to some cut,
    the grouped ones, or the head are timed against the fully quantised model; what helps is combined and timed again; and the
    winner is held against the original. All of `plan.static` is returned when even that is slower than the original."""
    from modelkit.bench.cpu import usable_cores
    from modelkit.bench.quick import quick_latency

    threads = threads or usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        files: dict[Variant, Path] = {None: Path(folder) / "original.onnx"}

        def time(variants: Iterable[Variant], budget: float, rounds: int = 2) -> Times:
            asked = list(dict.fromkeys(variants))
            for left in asked:
                if left is not None and left not in files:
                    files[left] = Path(folder) / f"{len(files)}.onnx"
                    build(plan.without(dict.fromkeys(left, REASON))).save(files[left])
            found = quick_latency({str(i): files[left] for i, left in enumerate(asked)}, feeds, threads, budget, rounds)
            return {left: found[str(i)] for i, left in enumerate(asked)}

        model.save(files[None])
        best: frozenset[str] = frozenset()
        parts = [part for part in _parts(model.graph, plan.static) if part < frozenset(plan.static)]
        taken = min(time([best], 0.0, rounds=1)[best])
        if taken > _LONG_MS:
            parts = [] if taken > _SLOW_MS else parts[:_FEW]
        times = time([None, best, *parts], seconds / 4, rounds=1)
        parts = [part for part in parts if min(times[part]) < min(times[best])]
        for left, again in time([None, best, *parts], seconds / 2, rounds=1).items():
            times[left] += again
        finalists = _combined([part for part in parts if _faster(times[part], times[best])], times)
        if finalists:
            times = time([None, best, *finalists], seconds, rounds=4)
            winner = min(finalists, key=lambda left: min(times[left]))
            if _faster(times[winner], times[best]):
                best = winner
        if _faster(times[None], times[best]):
            times = time([None, best], seconds, rounds=4)
            if _faster(times[None], times[best]):
                best = frozenset(plan.static)
    return dict.fromkeys(sorted(best), REASON)


def slower_in_torch(model: Model, plan: Plan, feeds: Feeds, target: str, threads: int | None) -> dict[str, str]:
    """The layers of `plan` that PyTorch computes faster in floating point for these inputs, each with the reason."""
    from modelkit.bench.cpu import usable_cores
    from modelkit.bench.integer_latency import integer_latency

    layers = [model.graph.by_name[name] for name in (*plan.static, *plan.dynamic)]
    left = {node.name: UNAVAILABLE for node in layers if not is_one_product(node)}
    layers = [node for node in layers if node.name not in left]
    values = next(iter(model.observe([feeds], dict.fromkeys(node.inputs[0] for node in layers))))
    for node in layers:
        shape = values[node.inputs[0]].shape
        shape = shape if node.kind == "conv" else (prod(shape[:-1]), shape[-1])
        as_floats, as_integers = integer_latency(node, shape, node.name in plan.dynamic, target, threads or usable_cores())
        if as_integers > _GAIN * as_floats:
            left[node.name] = REASON
    return left


def _pays_in_torch(base: Model, plan: Plan, build: Build, feeds: Feeds, wanted: Quantization) -> bool:
    """Whether a model with convolutions in integers is faster as a whole, which pays for what is passed on between layers."""
    from modelkit.bench.cpu import usable_cores
    from modelkit.bench.speedup import Speedup

    if wanted.target.name == "cuda" or all(base.graph.by_name[name].kind != "conv" for name in plan.static):
        return True
    return Speedup(base, feeds, wanted.threads or usable_cores())(build(plan), aim=1.0) * _GAIN > 1


def _sizes_known(graph: Graph) -> bool:
    """Whether the inputs have one size, but for the batch: how many rows a layer gets decides what it gains."""
    return all(isinstance(size, int) for spec in graph.inputs for size in spec.dims[1:])


def _runs_here(target: Target) -> bool:
    """Whether this machine is of the kind that the result is laid out for."""
    if target.name == "cuda":
        import torch

        return torch.cuda.is_available()
    from modelkit.bench.cpu import target_isa

    return target.name == target_isa()


def _faster(candidate: list[float], other: list[float]) -> bool:
    """By the best round of each, and in the typical round too: on a busy machine one of the two is often chance."""
    return min(candidate) < _GAIN * min(other) and median(a / b for a, b in zip(candidate, other, strict=True)) < _GAIN


def _combined(helpful: list[frozenset[str]], times: Times) -> list[frozenset[str]]:
    """The variants worth a second look: the two best alone, and the best joined with each of the others that help."""
    ranked = sorted(helpful, key=lambda part: min(times[part]))
    joined = [ranked[0] | other for other in ranked[1:]] if ranked else []
    return list(dict.fromkeys([*ranked[:2], *joined[:3]]))


def _parts(graph: Graph, static: list[str]) -> list[frozenset[str]]:
    """Sets of layers that integer kernels may lose on."""
    grouped = frozenset(name for name in static if int(graph.by_name[name].attributes.get("groups", 1)) > 1)
    head = frozenset(name for name in static if graph.by_name[name].outputs[0] in graph.outputs)
    prefixes = [frozenset(static[: static.index(name)]) for name in _cuts(graph, static)]
    return list(dict.fromkeys(part for part in (*prefixes, grouped, head) if part))


def _cuts(graph: Graph, static: list[str]) -> list[str]:
    """The first layers behind which the model can be cut through a single edge: no residual branch spans the cut."""
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    last_read = {
        edge: max(position[node.name] for node in graph.consumers(edge)) for edge in graph.edges if graph.consumers(edge)
    }
    cuts = []
    for name in static[1 : len(static) // 2 + 1]:
        at = position[name]
        made = [spec.name for spec in graph.inputs] + [edge for node in graph.nodes[:at] for edge in node.outputs]
        if sum(last_read.get(edge, -1) >= at for edge in made) == 1:
            cuts.append(name)
    return cuts[:_CUTS]
