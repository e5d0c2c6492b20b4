"""Channels that must be removed together, and what a model loses when they are.

A *unit* is the smallest thing that can be removed: one channel with everything that depends on its number (the filter that
writes it, its bias and norm parameters, the input slices of all layers that read it), or a whole attention head where only that
leaves every shape a box. A *group* is a set of units that touch the same places in the same way, so that any subset of them may
go: the channels between two convolutions, the width of a residual stream, the heads of one attention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .graph import Edge, Graph, Node, Parameter, Shape

Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]
Key = TypeVar("Key")
Part = TypeVar("Part", int, str)


class Slot(NamedTuple):
    """One axis of one parameter, in the neutral layout."""

    node: str
    role: str
    axis: int


@dataclass(frozen=True)
class Cut:
    """What remains of each axis that gets shorter: positions, rising. Anything not named stays whole.

    parameters: by (node, role) and axis. edges: by edge and axis. counts: by node and name, what remains of the things that a
    node states the number of ("groups" of convolutions and group norms, "heads" and "kv_heads" of attention).
    """

    parameters: Mapping[tuple[str, str], Mapping[int, Positions]] = field(default_factory=dict)
    edges: Mapping[str, Mapping[int, Positions]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, Positions]] = field(default_factory=dict)

    @classmethod
    def joined(cls, cuts: Iterable[Cut]) -> Cut:
        """What remains after all of these cuts of one graph."""
        cuts = tuple(cuts)
        return cls(
            _joined(cut.parameters for cut in cuts), _joined(cut.edges for cut in cuts), _joined(cut.counts for cut in cuts)
        )

    @cached_property
    def attributes(self) -> Mapping[str, Mapping[str, int]]:
        """The new values of what nodes state, by node and name."""
        return {node: {name: len(kept) for name, kept in names.items()} for node, names in self.counts.items()}

    def shape(self, edge: str, old: Shape) -> Shape:
        return _cut(old, self.edges.get(edge, {}))

    def remains(self, edge: str, values: NDArray[Any]) -> NDArray[Any]:
        """What is left of an edge's values, along every axis that got shorter."""
        for axis, kept in self.edges.get(edge, {}).items():
            values = np.take(values, kept, axis)
        return values

    def resized(self, graph: Graph, known: dict[object, Node] | None = None) -> Graph:
        """The graph as it will be: enough to count MACs and parameters without touching a weight. `known`: nodes that were made
        for other cuts of the same graph, and may be taken again."""
        known = {} if known is None else known
        return dataclasses.replace(
            graph,
            nodes=tuple(self._node(node, known) for node in graph.nodes),
            edges={name: self._edge(edge) for name, edge in graph.edges.items()},
        )

    def _edge(self, edge: Edge) -> Edge:
        if edge.name not in self.edges or edge.shape is None:
            return edge
        return Edge(edge.name, self.shape(edge.name, edge.shape), edge.dtype)

    def _node(self, node: Node, known: dict[object, Node]) -> Node:
        cuts = {role: axes for role in node.parameters if (axes := self.parameters.get((node.name, role)))}
        counts = self.attributes.get(node.name, {})
        if not cuts and not counts:
            return node
        remains = {role: tuple((axis, kept.tobytes()) for axis, kept in sorted(axes.items())) for role, axes in cuts.items()}
        key = (node.name, *remains.items(), *counts.items())
        if key not in known:
            parameters = dict(node.parameters)
            for role, axes in cuts.items():
                parameters[role] = _shorter(node.parameters[role], axes)
            known[key] = dataclasses.replace(node, parameters=parameters, attributes={**node.attributes, **counts})
        return known[key]


def _shorter(parameter: Parameter, axes: Mapping[int, Positions]) -> Parameter:
    shape = _cut(parameter.shape, axes)
    own = parameter.axes or range(len(shape))
    # tied ones stay tied where the same remains of them
    remains = hash(tuple(sorted((own[axis], kept.tobytes()) for axis, kept in axes.items())))
    stored = tuple(f"{name}, cut {remains}" for name in parameter.stored)
    new = dataclasses.replace(parameter, shape=shape, stored=stored)
    return dataclasses.replace(new, bytes=parameter.bytes * new.size // max(parameter.size, 1))


def _cut(shape: Shape, axes: Mapping[int, Positions]) -> Shape:
    return tuple(len(axes[axis]) if axis in axes else size for axis, size in enumerate(shape))


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

    def cut(self, mask: Mask) -> Cut:
        """What remains when only the units of the mask stay. Raises ValueError for a mask of the wrong length or an empty one."""
        if len(mask) != self.size or not mask.any():
            raise ValueError(f"{self.name} has {self.size} units, at least one of which must stay")
        stays = np.append(mask, True)  # the last one stands for −1: positions of other groups
        parameters: dict[tuple[str, str], dict[int, Positions]] = {}
        edges: dict[str, dict[int, Positions]] = {}
        counts: dict[str, dict[str, Positions]] = {}
        for slot, units in self.slots.items():
            _keep(parameters, (slot.node, slot.role), slot.axis, stays[units])
        for (edge, axis), units in self.edges.items():
            _keep(edges, edge, axis, stays[units])
        for (node, name), units in self.counts.items():
            _keep(counts, node, name, stays[units])
        return Cut(parameters, edges, counts)


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
        """What `Model.shrink` needs: `keep` has a mask over the units of each group (by name) that loses some. Raises ValueError
        as `ChannelGroup.cut` does."""
        return Cut.joined(group.cut(keep[group.name]) for group in self.groups if group.name in keep)


def _keep(found: dict[Key, dict[Part, Positions]], key: Key, part: Part, mask: Mask) -> None:
    if not mask.all():
        found.setdefault(key, {})[part] = np.flatnonzero(mask)


def _joined(maps: Iterable[Mapping[Key, Mapping[Part, Positions]]]) -> dict[Key, dict[Part, Positions]]:
    found: dict[Key, dict[Part, Positions]] = {}
    for one in maps:
        for key, parts in one.items():
            mine = found.setdefault(key, {})
            for part, kept in parts.items():
                mine[part] = np.intersect1d(mine[part], kept, assume_unique=True) if part in mine else kept
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
