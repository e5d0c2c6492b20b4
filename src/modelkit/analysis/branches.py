"""Sides of residual sums that can be removed whole."""

from __future__ import annotations

from collections.abc import Iterator

from modelkit.core.channels import Branch
from modelkit.core.graph import Graph, Node


def branches(graph: Graph) -> tuple[Branch, ...]:
    """For every sum of two activations of one shape, each side that holds layers which lead nowhere else."""
    return tuple(branch for node in graph.nodes for branch in _sides(graph, node))


def _sides(graph: Graph, join: Node) -> Iterator[Branch]:
    if join.kind != "elementwise" or join.function != "add" or len(set(join.inputs)) != 2 or join.parameters:
        return
    shapes = {graph.shape(edge) for edge in (*join.inputs, *join.outputs)}
    if len(shapes) != 1 or None in shapes or not graph.edges[join.outputs[0]].is_float:
        return
    for edge in join.inputs:
        nodes = _only_for(graph, edge, join)
        layers = [node for node in graph.nodes if node.name in nodes and node.is_layer]
        if any(layer.kind != "embedding" for layer in layers):
            yield Branch(join.name, edge, _channel_axis(graph, edge), tuple(layer.name for layer in layers))


def _only_for(graph: Graph, edge: str, join: Node) -> set[str]:
    """The nodes that nothing is computed with but `edge`, and with that `join` alone."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        readers = {(reader.name, out) for out in node.outputs for reader in graph.consumers(out)}
        outside = {out for name, out in readers if name not in found and (name, out) != (join.name, edge)}
        if readers and not outside and not set(node.outputs) & set(graph.outputs):
            found.add(node.name)
    return found


def _channel_axis(graph: Graph, edge: str) -> int:
    """Where the channels of an edge lie: the second axis behind a convolution, else the last."""
    rank = len(graph.shape(edge) or ())
    node = graph.producer(edge)
    while node is not None and not node.is_layer:
        if node.kind not in ("norm", "activation", "elementwise", "pool") or not node.inputs:
            break
        node = graph.producer(node.inputs[0])
    return 1 if node is not None and node.kind == "conv" else rank - 1
