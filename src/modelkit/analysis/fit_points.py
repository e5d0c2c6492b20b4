"""Where it shows what a layer computes: the value that a refit of the layer should restore."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from modelkit.core.graph import Graph, Node

Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)


@dataclass(frozen=True)
class FitPoint:
    """edge: the value to restore. offset: what is added to the layer's output to give it, or None if it is that output.
    seen: the bounds of what matters of it, where nothing but activations that clip reads the value."""

    edge: str
    offset: str | None
    seen: Bounds = UNBOUNDED


def fit_point(graph: Graph, layer: Node, joins: Collection[str] = (), lost: Collection[str] = ()) -> FitPoint:
    """Behind a residual sum, if the layer is the last of its two sides to be computed: it then also makes up for what earlier
    layers did to the other side. joins: sums that will be gone with the `lost` layers on one side of each: where nothing else
    reads the value, the last of them is the one to restore."""
    edge, offset = layer.outputs[0], None
    readers = graph.consumers(edge)
    if len(readers) == 1 and edge not in graph.outputs and is_sum(graph, readers[0]):
        other = next(name for name in readers[0].inputs if name != edge)
        maker = graph.producer(other)
        if maker is None or graph.position[maker.name] < graph.position[layer.name]:
            edge, offset = readers[0].outputs[0], other
    edge = _beyond(graph, edge, joins, lost)
    return FitPoint(edge, offset, _seen(graph, edge))


def _beyond(graph: Graph, edge: str, joins: Collection[str], lost: Collection[str]) -> str:
    """The edge behind sums that will be gone which then has this one's value, or the same behind the rectifiers of both."""
    reader = _only_reader(graph, edge, lost)
    if reader is None:
        return edge
    if reader.name in joins:
        return _beyond(graph, reader.outputs[0], joins, lost)
    join = _only_reader(graph, reader.outputs[0], lost) if reader.function == "relu" else None
    if join is None or join.name not in joins:
        return edge
    behind = _only_reader(graph, join.outputs[0], lost)
    return _beyond(graph, join.outputs[0], joins, lost) if behind is not None and behind.function == "relu" else edge


def _only_reader(graph: Graph, edge: str, lost: Collection[str]) -> Node | None:
    readers = [node for node in graph.consumers(edge) if node.name not in lost]
    return readers[0] if len(readers) == 1 and edge not in graph.outputs else None


def _seen(graph: Graph, edge: str) -> Bounds:
    """Between which bounds anything behind the edge follows its value; beyond, all of it stands still."""
    readers = graph.consumers(edge)
    if not readers or edge in graph.outputs:
        return UNBOUNDED
    lows, highs = zip(*(_let_through(graph, reader) for reader in readers), strict=True)
    return min(lows), max(highs)


def _let_through(graph: Graph, node: Node) -> Bounds:
    """Between which bounds what reads the node follows the node's input."""
    if node.kind != "activation" or len(node.inputs) > 1 or node.parameters:  # bounds that are computed, or one for each channel
        return UNBOUNDED
    if node.function == "relu":
        low, high = 0.0, math.inf
    elif node.function == "clip":
        low, high = float(node.attributes.get("low", -math.inf)), float(node.attributes.get("high", math.inf))
    else:
        return UNBOUNDED
    behind = _seen(graph, node.outputs[0])  # within its bounds, the node passes the value on as it is
    return max(low, behind[0]), min(high, behind[1])


def is_sum(graph: Graph, node: Node) -> bool:
    if node.kind != "elementwise" or node.function != "add" or node.parameters or len(set(node.inputs)) != 2:
        return False
    shapes = {graph.shape(edge) for edge in (*node.inputs, *node.outputs)}
    return len(shapes) == 1 and None not in shapes


def live_edges(graph: Graph, place: int) -> list[str]:
    """The values that are computed (or given) before the node at this place and read there or later: they cut the graph."""
    made = [spec.name for spec in graph.inputs] + [edge for node in graph.nodes[:place] for edge in node.outputs]
    return [edge for edge in made if any(graph.position[node.name] >= place for node in graph.consumers(edge))]
