"""Labels of every edge of a graph, and of every axis of a parameter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelkit.core.channels import Positions, Slot
from modelkit.core.graph import Node, Parameter, Shape
from modelkit.core.model import Model

from .labels import Labels, Units, aligned, compact, folded, varying


@dataclass(frozen=True)
class Held:
    """The labels along one axis of a parameter, and its part: writer, reader or follower."""

    labels: Labels
    part: str


class Follower:
    """What is known so far, and what all rules do. The rules (one for each kind of node) are functions of a Follower and a node.

    labels: of edges. slots: of axes of parameters; behind: of constants that are as long as an axis of an edge. counts: of groups
    and heads. inexact: what norms and means take statistics over. moves: where nodes that move data take each element from."""

    def __init__(self, model: Model) -> None:
        self.model, self.graph, self.units = model, model.graph, Units()
        self.labels: dict[str, Labels] = {}
        self.slots: dict[Slot, Held] = {}
        self.behind: dict[Slot, tuple[str, int]] = {}  # constants that are as long as an axis of an edge
        self.counts: dict[tuple[str, str], Labels] = {}
        self.inexact: list[Labels] = []
        self.moves: dict[str, dict[str, Positions] | None] = {}

    def at(self, edge: str) -> Labels:
        """An edge's labels as they are known now, compact."""
        found = self.labels.get(edge)
        if found is None:
            return np.zeros((1,) * len(self.graph.shape(edge) or ()), np.int64)
        return compact(self.units.live(found))

    def shape(self, edge: str) -> Shape:
        return self.graph.shape(edge) or ()

    def set(self, edge: str, labels: Labels) -> None:
        if labels.any():
            self.labels[edge] = labels

    def freeze_inputs(self, node: Node, why: str) -> None:
        for edge in node.inputs:
            if self.graph.shape(edge) is not None:
                self.units.freeze(self.at(edge), why)

    def ids(self, node: Node, role: str, axis: int) -> Labels:
        """The labels of one axis of a parameter: of the stored tensor's, so that tied weights share them. An axis of length 1
        has none: it can't get shorter."""
        parameter = node.parameters[role]
        count = parameter.shape[axis]
        if count == 1:
            return np.zeros(1, np.int64)
        key = (parameter.stored, parameter.axes[axis]) if parameter.axes is not None else (node.name, role, axis)
        return self.units.of((*key, count), count)

    def hold(self, node: Node, role: str, axis: int, labels: Labels, part: str) -> None:
        if role in node.parameters:
            self.slots[Slot(node.name, role, axis)] = Held(labels, part)

    def follow(self, node: Node, role: str, axis: int, edge: str, edge_axis: int) -> None:
        self.behind[Slot(node.name, role, axis)] = (edge, edge_axis)

    def same_along(self, labels: Labels, node: Node, keep: tuple[int, ...]) -> Labels:
        """Labels made equal along all axes but `keep`."""
        others = [axis for axis in range(labels.ndim) if axis not in keep]
        return self.units.merge(labels, others, f"{node.name} needs whole positions of it")

    def pair(self, node: Node, a: Labels, a_shape: Shape, b: Labels, b_shape: Shape) -> Labels:
        """Labels of what is computed from two tensors of these shapes (of one rank), element by element."""
        units, why = self.units, f"{node.name} joins it with values that stay whole"
        for axis in range(a.ndim):
            # A side that does not change along an axis of full length needs all of it.
            if a.shape[axis] > 1 and b.shape[axis] == 1 and b_shape[axis] > 1 and not b.any():
                a = units.merge(a, [axis], why)
            if b.shape[axis] > 1 and a.shape[axis] == 1 and a_shape[axis] > 1 and not a.any():
                b = units.merge(b, [axis], why)
        a, b = compact(units.live(a)), compact(units.live(b))
        if not a.any() or not b.any():
            return b if not a.any() else a
        if set(varying(a)).isdisjoint(varying(b)) and not _overlap(a, a_shape, b, b_shape):
            fewer, more = (a, b) if a.size < b.size else (b, a)
            units.freeze(fewer, f"{node.name} spreads it over other channels")
            return more
        units.join(a, b, why)
        return compact(units.live(np.broadcast_arrays(a, b)[0]))

    def combine(self, node: Node, labels: Labels, shape: Shape, edge: str) -> Labels:
        return self.pair(node, labels, shape, aligned(self.at(edge), len(shape)), folded(self.shape(edge), len(shape)))

    def constant(self, node: Node, role: str, parameter: Parameter, edge: str) -> None:
        """A constant that broadcasts against an edge is as long as its axes are."""
        rank = len(self.shape(edge))
        for axis, size in enumerate(parameter.shape):
            at = axis + rank - len(parameter.shape)
            if size > 1 and at >= 0 and size == self.shape(edge)[at]:
                self.follow(node, role, axis, edge, at)

    def give(self, node: Node, labels: Labels) -> None:
        """Set the labels of all outputs that they fit."""
        for out in node.outputs:
            if len(self.shape(out)) == labels.ndim and all(
                n in (1, size) for n, size in zip(labels.shape, self.shape(out), strict=True)
            ):
                self.set(out, labels)


def _overlap(a: Labels, a_shape: Shape, b: Labels, b_shape: Shape) -> bool:
    """Whether one side's labels change along an axis where the other one, all of one unit, has its full length too."""
    pairs = zip(a.shape, a_shape, b.shape, b_shape, strict=True)
    return any((x > 1 and bs > 1) or (y > 1 and as_ > 1) for x, as_, y, bs in pairs) or (a.size == b.size == 1)
