"""Channels that must be removed together, and what a model loses when they are.

A *unit* is the smallest thing that can be removed: one channel with everything that depends on its number (the filter that
writes it, its bias and norm parameters, the input slices of all layers that read it), or a whole attention head where only that
leaves every shape a box. A *group* is a set of units that touch the same places in the same way, so that any subset of them may
go: the channels between two convolutions, the width of a residual stream, the heads of one attention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .graph import Edge, Graph, Node, Shape

Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]
Key = TypeVar("Key", int, str)


class Slot(NamedTuple):
    """One axis of one parameter, in the neutral layout."""

    node: str
    role: str
    axis: int


@dataclass(frozen=True)
class ChannelGroup:
    """Units 0 … size − 1. Each mapping holds, for every position along an axis, the unit that it belongs to, or −1 where it
    belongs to none of this group (a concatenation's other part).

    writers: the output axis of weights, and biases, of the layers that compute the channels.
    readers: the input axis of the weights of the layers that read them; their input is the node's first input edge. Several
        positions of one unit are common (flatten into linear: one for each pixel).
    followers: what else is as long: norms, depthwise convolutions, constants added or multiplied.
    edges: by (edge, axis), the activations that hold the channels.
    counts: by (node, attribute), counts that fall with the units ("groups" of a convolution or group norm, "heads" of attention):
        for each of those groups or heads, its unit.
    exact: whether removing channels that are all zero (with all that makes them) leaves the outputs as they are. It does not
        when a norm takes statistics over them.
    """

    name: str
    size: int
    writers: Mapping[Slot, Positions]
    readers: Mapping[Slot, Positions]
    followers: Mapping[Slot, Positions]
    edges: Mapping[tuple[str, int], Positions]
    counts: Mapping[tuple[str, str], Positions] = field(default_factory=dict)
    exact: bool = True

    @property
    def slots(self) -> Mapping[Slot, Positions]:
        return {**self.writers, **self.readers, **self.followers}

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that own a parameter of the group, writers first."""
        return tuple(dict.fromkeys(slot.node for slot in self.slots))


@dataclass(frozen=True)
class Cut:
    """What remains of each axis that gets shorter: positions, rising. Anything not named stays whole.

    parameters: by (node, role) and axis. edges: by edge and axis. attributes: new values of counts that nodes state
    ("groups" of convolutions and group norms, "heads" and "kv_heads" of attention).
    """

    parameters: Mapping[tuple[str, str], Mapping[int, Positions]] = field(default_factory=dict)
    edges: Mapping[str, Mapping[int, Positions]] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def shape(self, edge: str, old: Shape) -> Shape:
        return _cut(old, self.edges.get(edge, {}))

    def resized(self, graph: Graph) -> Graph:
        """The graph as it will be: enough to count MACs and parameters without touching a weight."""
        return dataclasses.replace(
            graph,
            nodes=tuple(self._node(node) for node in graph.nodes),
            edges={name: self._edge(edge) for name, edge in graph.edges.items()},
        )

    def _edge(self, edge: Edge) -> Edge:
        if edge.name not in self.edges or edge.shape is None:
            return edge
        return dataclasses.replace(edge, shape=self.shape(edge.name, edge.shape))

    def _node(self, node: Node) -> Node:
        parameters = dict(node.parameters)
        for role, parameter in node.parameters.items():
            axes = self.parameters.get((node.name, role))
            if axes:
                shape = _cut(parameter.shape, axes)
                # tied ones stay tied where the same remains of them
                own = parameter.axes or range(len(shape))
                remains = hash(tuple(sorted((own[axis], kept.tobytes()) for axis, kept in axes.items())))
                stored = tuple(f"{name}, cut {remains}" for name in parameter.stored)
                new = dataclasses.replace(parameter, shape=shape, stored=stored)
                parameters[role] = dataclasses.replace(new, bytes=parameter.bytes * new.size // max(parameter.size, 1))
        attributes: Mapping[str, Any] = {**node.attributes, **self.attributes.get(node.name, {})}
        return dataclasses.replace(node, parameters=parameters, attributes=attributes)


def _cut(shape: Shape, axes: Mapping[int, Positions]) -> Shape:
    return tuple(len(axes[axis]) if axis in axes else size for axis, size in enumerate(shape))


@dataclass(frozen=True)
class Branch:
    """A side of a residual sum that can be removed whole: `join` (an add) then reads a constant, the branch's mean for each
    channel (which lie along `axis`), instead of `edge`: `Model.settle`. `layers` are no longer computed."""

    join: str
    edge: str
    axis: int
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Channels:
    """The prunable structure of a model, as its graph is now. `frozen`: why the output channels of a layer (by name) stay."""

    graph: Graph
    groups: tuple[ChannelGroup, ...]
    branches: tuple[Branch, ...] = ()
    frozen: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ChannelGroup]:
        return iter(self.groups)

    def __getitem__(self, name: str) -> ChannelGroup:
        return next(group for group in self.groups if group.name == name)

    def cut(self, keep: Mapping[str, Mask]) -> Cut:
        """What `Model.shrink` needs: `keep` has a mask over the units of each group (by name) that loses some. At least one
        unit must stay. Raises ValueError for a mask of the wrong length or an empty one."""
        parameters: dict[tuple[str, str], dict[int, Mask]] = {}
        edges: dict[str, dict[int, Mask]] = {}
        counts: dict[str, dict[str, Mask]] = {}
        for group in self.groups:
            mask = keep.get(group.name)
            if mask is None:
                continue
            if len(mask) != group.size or not mask.any():
                raise ValueError(f"{group.name} has {group.size} units, at least one of which must stay")
            stays = np.append(mask, True)  # the last one stands for −1: positions of other groups
            for slot, units in group.slots.items():
                _narrow(parameters.setdefault((slot.node, slot.role), {}), slot.axis, stays[units])
            for (edge, axis), units in group.edges.items():
                _narrow(edges.setdefault(edge, {}), axis, stays[units])
            for (node, name), units in group.counts.items():
                _narrow(counts.setdefault(node, {}), name, stays[units])
        attributes = {node: {name: int(mask.sum()) for name, mask in names.items()} for node, names in counts.items()}
        return Cut(_positions(parameters), _positions(edges), attributes)


def _narrow(masks: dict[Key, Mask], key: Key, mask: Mask) -> None:
    masks[key] = masks[key] & mask if key in masks else mask


def _positions(masks: Mapping[Any, Mapping[int, Mask]]) -> dict[Any, dict[int, Positions]]:
    found: dict[Any, dict[int, Positions]] = {}
    for key, axes in masks.items():
        shorter = {axis: np.flatnonzero(mask) for axis, mask in axes.items() if not mask.all()}
        if shorter:
            found[key] = shorter
    return found


def new_places(kept: Positions, taken: Positions) -> Positions:
    """Where those of the old positions `taken` that are kept lie among the kept ones."""
    return np.searchsorted(kept, taken[np.isin(taken, kept)])


def padding(
    before: int, after: int, size: int, kept: Positions | None, out_size: int, out_kept: Positions | None
) -> tuple[int, int]:
    """How much is padded at both ends of an axis (below 0: taken away) that was `size` long and became `out_size`, when of each
    only the kept positions are left (None: all)."""
    inside = np.arange(size) if kept is None else kept
    outside = np.arange(out_size) if out_kept is None else out_kept
    first = int((outside < before).sum()) if before >= 0 else -int((inside < -before).sum())
    last = int((outside >= out_size - after).sum()) if after >= 0 else -int((inside >= size + after).sum())
    return first, last
