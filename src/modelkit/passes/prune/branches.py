"""Residual branches that are removed whole, and what is left in their place."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from modelkit.analysis.behind import can_refit
from modelkit.analysis.fit_points import fit_point, is_sum
from modelkit.core.channels import Branch, Channels
from modelkit.core.forms import Array, Dense
from modelkit.core.graph import Graph, Node
from modelkit.core.model import Model

_PASSING = ("activation", "pool", "reduce", "reshape")  # of one input; what is added to it shows in the output


def removable_branches(channels: Channels) -> dict[str, Branch]:
    """By group: the branch that goes when none of its units are kept. It ends in a layer, whose bias stays in its place."""
    found = {}
    for branch in channels.branches:
        last = channels.graph.producer(branch.edge)
        if last is None or not can_refit(channels.graph, last):
            continue
        inside = [group for group in channels if group.nodes and set(group.nodes) <= set(branch.layers)]
        if inside:
            found[inside[0].name] = branch
    return found


def made_up_for(graph: Graph, gone: Collection[Branch], fixed: Collection[str]) -> set[str]:
    """The joins whose removed branches may leave nothing, as the biases of refitted layers behind add what they gave: those whose
    sum is read by nothing else. graph: with the branches still there."""
    joins = {branch.join for branch in gone}
    lost = {layer for branch in gone for layer in branch.layers}

    def adds(name: str) -> bool:
        return name not in fixed and name not in lost and can_refit(graph, graph.by_name[name])

    def absorbed(edge: str) -> bool:
        readers = [node for node in graph.consumers(edge) if node.name not in lost]
        return edge not in graph.outputs and bool(readers) and all(absorbs(reader, edge) for reader in readers)

    def absorbs(reader: Node, edge: str) -> bool:
        if reader.is_layer:
            return reader.inputs[0] == edge and adds(reader.name)
        if reader.name in joins:
            return absorbed(reader.outputs[0])
        if is_sum(graph, reader):
            last = graph.producer(next(other for other in reader.inputs if other != edge))
            return last is not None and last.is_layer and adds(last.name) and fit_point(graph, last).offset == edge
        return reader.kind in _PASSING and len(reader.inputs) == 1 and absorbed(reader.outputs[0])

    return {b.join for b in gone if not _beside_layer(graph, b) and absorbed(graph.by_name[b.join].outputs[0])}


def _beside_layer(graph: Graph, branch: Branch) -> bool:
    """Whether the other side of the sum is a layer's output: its bias can stand for the branch exactly."""
    other = next((edge for edge in graph.by_name[branch.join].inputs if edge != branch.edge), None)
    layer = None if other is None else graph.producer(other)
    return layer is not None and layer.is_layer


def take_out(model: Model, branch: Branch, constant: Array | None) -> None:
    """Let one number for each channel stand for the branch: in the bias of the layer on the other side of the sum if that leads
    nowhere else, or as an addend. None: let nothing stand for it."""
    rank_of = len(model.graph.shape(branch.edge) or ())
    shape = [-1 if axis == branch.axis else 1 for axis in range(rank_of)]
    channels = (model.graph.shape(branch.edge) or ())[branch.axis]
    value = np.zeros(channels, np.float32) if constant is None else constant
    model.settle(branch.join, branch.edge, value.reshape(shape))
    graph = model.graph
    join = graph.by_name.get(branch.join)
    if join is None:  # it is the bias already
        return
    if constant is None:
        _remove_sum(model, join)
        return
    layer = graph.producer(join.inputs[0])
    if layer is None or layer.kind not in ("conv", "linear") or layer.skip:
        return
    bias, edge = layer.parameters.get("bias"), layer.outputs[0]
    if bias is None or graph.is_shared(bias) or graph.consumers(edge) != (join,) or edge in graph.outputs:
        return
    if branch.axis == (1 if layer.kind == "conv" else rank_of - 1):
        known = model.parameter(layer.name, "bias")
        assert known is not None
        model.set_parameter(layer.name, "bias", Dense((known + constant).astype(known.dtype)))
        model.remove(join.name)


def _remove_sum(model: Model, join: Node) -> None:
    """And the rectifier behind it, where there is one before it already."""
    graph = model.graph
    before, readers = graph.producer(join.inputs[0]), graph.consumers(join.outputs[0])
    twice = before is not None and before.function == "relu" and len(readers) == 1 and readers[0].function == "relu"
    for node in (join, *readers) if twice else (join,):
        model.remove(node.name)
