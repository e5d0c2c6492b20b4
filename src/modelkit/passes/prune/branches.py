"""Residual branches that are removed whole, and what is left in their place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Removal:
    """What goes with `branches`: their `layers`. Of those, `constants` end a branch, for which the mean of what they give stands
    afterwards, their bias; `silent` end one for whose `joins` nothing does: layers around make up for it."""

    branches: tuple[Branch, ...] = ()
    layers: frozenset[str] = frozenset()
    constants: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    joins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, graph: Graph, branches: Sequence[Branch], fixed: Collection[str]) -> Removal:
        """graph: with the branches, which are `removable_branches`, still there."""
        ends = {branch.join: end.name for branch in branches if (end := graph.producer(branch.edge)) is not None}
        joins = _made_up_for(graph, branches, fixed)
        return cls(
            tuple(branches),
            frozenset(layer for branch in branches for layer in branch.layers),
            frozenset(end for join, end in ends.items() if join not in joins),
            frozenset(end for join, end in ends.items() if join in joins),
            joins,
        )

    def silence(self, model: Model) -> None:
        """Let what nothing will stand for give zeros."""
        for name in self.silent:
            for role in ("weight", "bias"):
                if (values := model.parameter(name, role)) is not None:
                    model.set_parameter(name, role, Dense(np.zeros_like(values)))

    def carry_out(self, model: Model) -> None:
        for branch in self.branches:
            shape, end = model.graph.shape(branch.edge) or (), model.graph.producer(branch.edge)
            bias = None if end is None else model.parameter(end.name, "bias")
            constant = np.zeros(shape[branch.axis], np.float32) if bias is None else bias
            along = [-1 if axis == branch.axis else 1 for axis in range(len(shape))]
            model.settle(branch.join, branch.edge, constant.reshape(along))
            if branch.join in self.joins:
                _remove_sum(model, branch)
            else:
                _merge(model, branch, constant)


def _made_up_for(graph: Graph, gone: Sequence[Branch], fixed: Collection[str]) -> frozenset[str]:
    """The joins whose removed branches may leave nothing, as the biases of refitted layers behind add what they gave: those whose
    sum is read by nothing else."""
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

    return frozenset(b.join for b in gone if not _beside_layer(graph, b) and absorbed(graph.by_name[b.join].outputs[0]))


def _beside_layer(graph: Graph, branch: Branch) -> bool:
    """Whether the other side of the sum is a layer's output: its bias can stand for the branch exactly."""
    other = next((edge for edge in graph.by_name[branch.join].inputs if edge != branch.edge), None)
    layer = None if other is None else graph.producer(other)
    return layer is not None and layer.is_layer


def _merge(model: Model, branch: Branch, constant: Array) -> None:
    """Let the bias of the layer on the other side of the sum hold the addend, if that leads nowhere else."""
    graph = model.graph
    join = graph.by_name.get(branch.join)
    layer = None if join is None else graph.producer(join.inputs[0])
    if join is None or layer is None or layer.kind not in ("conv", "linear") or layer.skip:  # no join: it is the bias already
        return
    bias, edge = layer.parameters.get("bias"), layer.outputs[0]
    if bias is None or graph.is_shared(bias) or graph.consumers(edge) != (join,) or edge in graph.outputs:
        return
    if branch.axis == (1 if layer.kind == "conv" else len(graph.shape(edge) or ()) - 1):
        known = model.parameter(layer.name, "bias")
        assert known is not None
        model.set_parameter(layer.name, "bias", Dense((known + constant).astype(known.dtype)))
        model.remove(join.name)


def _remove_sum(model: Model, branch: Branch) -> None:
    """And the rectifier behind it, where there is one before it already."""
    graph = model.graph
    join = graph.by_name[branch.join]
    before, readers = graph.producer(join.inputs[0]), graph.consumers(join.outputs[0])
    twice = before is not None and before.function == "relu" and len(readers) == 1 and readers[0].function == "relu"
    for node in (join, *readers) if twice else (join,):
        model.remove(node.name)
