"""Which layers gain from integer arithmetic, settled by measurement: a kernel's time depends on shapes, on neighbours and on the
processor in ways no rule foresees. Layers that lose are left alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from .analysis.macs import node_macs
from .core.graph import Graph, Node
from .core.model import Feeds, Model
from .quantize import Plan

_GAIN = 0.97  # a variant must take at most this share of the time of a simpler one: less is noise
REASON = "measured faster as it was"


def left_alone(
    model: Model, plan: Plan, build: Callable[[Plan], Model], feeds: Feeds, threads: int | None, budget: float
) -> tuple[dict[str, str], dict[str, float]]:
    """The static layers that are better left in floating point, with the reason, and the milliseconds measured by variant.

    Groups of layers that integer kernels often lose on are taken out of the quantised model one group at a time; those that
    make it faster are left out together, and at last the result is held against the original."""
    from .bench.cpu import usable_cores
    from .bench.quick import quick_latency

    threads = threads or usable_cores()

    groups = {name: members for name, members in _groups(model.graph, plan).items() if 0 < len(members)}
    variants: dict[str, Plan] = {"int8": plan}
    for name, members in groups.items():
        variants[name] = plan.without(dict.fromkeys(members, REASON))
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Path] = {"original": _save(model, Path(folder) / "original.onnx")}
        for index, (name, variant) in enumerate(variants.items()):
            if variant.static:
                files[name] = _save(build(variant), Path(folder) / f"{index}.onnx")
        times = quick_latency(files, feeds, threads, budget)
        helpful = [name for name in groups if times.get(name, 9e9) < _GAIN * times["int8"]]
        left = dict.fromkeys((member for name in helpful for member in groups[name]), REASON)
        best, best_name = left, "+".join(helpful) or "int8"
        if len(helpful) > 1:
            joint = plan.without(left)
            again = {name: files[name] for name in ("original", *helpful)}
            if joint.static:
                again["joint"] = _save(build(joint), Path(folder) / "joint.onnx")
            times |= quick_latency(again, feeds, threads, budget / 2)
            best_name = min((name for name in again if name != "original"), key=lambda name: times[name])
            best = left if best_name == "joint" else dict.fromkeys(groups[best_name], REASON)
    if times["original"] < _GAIN * times.get(best_name, 9e9):
        best = dict.fromkeys(plan.static, REASON)
    return best, times


def _save(model: Model, path: Path) -> Path:
    model.save(path)
    return path


def _groups(graph: Graph, plan: Plan) -> Mapping[str, list[str]]:
    """Layers that integer kernels may lose on: at the borders (where values are converted), and with little work per value."""
    inputs = {spec.name for spec in graph.inputs}
    static = [graph.by_name[name] for name in plan.static]
    total = sum(node_macs(graph, node) or 0 for node in static) or 1

    def tiny(node: Node) -> bool:
        return (node_macs(graph, node) or 0) < total / 1000

    return {
        "first": [node.name for node in static if _reaches_input(graph, node, inputs)],
        "last": [node.name for node in static if node.kind == "linear" and _is_head(graph, node)],
        "grouped": [node.name for node in static if int(node.attributes.get("groups", 1)) > 1],
        "tiny": [node.name for node in static if tiny(node) and node.kind == "linear" and not _is_head(graph, node)],
    }


def _reaches_input(graph: Graph, node: Node, inputs: set[str]) -> bool:
    edge = node.inputs[0]
    while edge not in inputs:
        producer = graph.producer(edge)
        if producer is None or producer.kind != "reshape" or not producer.inputs:
            return False
        edge = producer.inputs[0]
    return True


def _is_head(graph: Graph, node: Node) -> bool:
    return node.outputs[0] in graph.outputs
