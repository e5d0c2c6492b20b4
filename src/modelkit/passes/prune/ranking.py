"""In which order the units of each group go, and what their absence does to the model's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.algorithms.allocation import interpolated
from modelkit.algorithms.prune.obs import Reader, removal_order
from modelkit.algorithms.prune.reconstruct import moments, without_inputs
from modelkit.analysis.behind import can_refit
from modelkit.analysis.effects import effect
from modelkit.analysis.fit_points import live_edges
from modelkit.analysis.products import matrix, weight_of
from modelkit.analysis.rows import input_rows, places
from modelkit.core.channels import Branch, ChannelGroup, Channels, Cut, Mask
from modelkit.core.forms import Array, Dense
from modelkit.core.graph import Graph, Node
from modelkit.core.model import Feeds, Model

from .branches import removable_branches


@dataclass(frozen=True)
class Ranking:
    """order: units, the first to go first. effects: by the number of units kept, the relative squared error of the model's
    outputs. branch: what can be removed whole when none are kept."""

    order: NDArray[np.int64]
    effects: Array
    branch: Branch | None = None

    def mask(self, kept: int) -> Mask:
        mask = np.zeros(len(self.order), bool)
        mask[self.order[len(self.order) - max(kept, 1) :]] = True
        return mask


@dataclass(frozen=True)
class Study:
    """How the effects are measured: on how many samples, with which ridge, from how many rows, at which shares of the width."""

    samples: int
    ridge: float
    rows: int
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)


@dataclass
class _Statistics:
    """Of one reader's inputs."""

    mean: Array
    H: Array


@dataclass
class _Pending:
    """A group whose readers' inputs have not all been seen."""

    group: ChannelGroup
    readers: tuple[Node, ...]
    cut: list[str]
    statistics: dict[str, _Statistics] = field(default_factory=dict)
    given: dict[str, list[Array]] = field(default_factory=dict)


def rank(
    model: Model, channels: Channels, batches: Sequence[Feeds], allowed: Mapping[str, Sequence[int]], study: Study, seed: int
) -> dict[str, Ranking]:
    """One walk through the model. allowed: by group, the numbers of units that may be kept, 0 for a branch that may go.

    Units go in the order of structured OBS on the layers that read them (a group read by another operator: by magnitude). A few
    widths of each group are tried: the readers are refitted, and the rest of the model is run.
    """
    graph, random = model.graph, np.random.default_rng(seed)
    size = len(next(iter(batches[0].values())))
    measured = min(len(batches), -(-study.samples // size))
    expected = list(model.observe(batches[:measured], []))
    branches = removable_branches(channels)
    waiting = [_pending(graph, group) for group in channels]
    stops = dict.fromkeys(edge for p in waiting for edge in (*p.cut, *(reader.inputs[0] for reader in p.readers)))
    rankings: dict[str, Ranking] = {}
    for edge, values in model.walk(batches, stops):
        seen: dict[str, _Statistics] = {}
        for pending in waiting:
            if edge in pending.cut:
                pending.given[edge] = values[:measured]
            for reader in pending.readers:
                if reader.inputs[0] == edge:
                    if reader.name not in seen:
                        seen[reader.name] = _statistics(graph, reader, values, study.rows, random)
                    pending.statistics[reader.name] = seen[reader.name]
        for pending in [p for p in waiting if len(p.given) == len(p.cut) and len(p.statistics) == len(p.readers)]:
            waiting.remove(pending)
            name = pending.group.name
            rankings[name] = _ranking(
                model, channels, pending, batches[:measured], expected, allowed[name], branches.get(name), study
            )
    return rankings


def _pending(graph: Graph, group: ChannelGroup) -> _Pending:
    names = dict.fromkeys(slot.node for slot in group.readers)
    readers = tuple(graph.by_name[name] for name in names)
    usable = all(slot.role == "weight" and slot.axis == 1 for slot in group.readers) and all(
        can_refit(graph, reader) for reader in readers
    )
    makers = {maker.name for edge, _ in group.edges if (maker := graph.producer(edge)) is not None}
    return _Pending(group, readers if usable else (), live_edges(graph, min(graph.position[n] for n in {*group.nodes, *makers})))


def _statistics(graph: Graph, reader: Node, values: list[Array], rows: int, random: np.random.Generator) -> _Statistics:
    output = graph.shape(reader.outputs[0]) or ()
    each = max(1, rows // len(values))
    parts = []
    for x in values:
        shape = (len(x), *output[1:]) if reader.kind == "conv" else x.shape
        parts.append(input_rows(reader, x.astype(np.float32, copy=False), places(reader, shape, each, random)))
    mean, _, H = moments(np.concatenate(parts))
    return _Statistics(mean, H)


def _ranking(
    model: Model, channels: Channels, pending: _Pending, batches: Sequence[Feeds], expected: Sequence[Mapping[str, Array]],
    allowed: Sequence[int], branch: Branch | None, study: Study,
) -> Ranking:  # fmt: skip
    group = pending.group
    order, errors = _order(model, pending)
    draft = Ranking(order, np.empty(0), branch)
    tried = {min(allowed, key=lambda width: abs(width - share * group.size)) for share in study.shares} - {group.size}
    found = {}
    for kept in sorted(tried):
        mask = draft.mask(kept)
        cut = channels.cut({group.name: mask})
        variant = model.copy()
        variant.shrink(cut)
        for reader in pending.readers:
            _set_reader(variant, model, reader, pending, mask & (kept > 0), cut, study.ridge)
        found[kept] = effect(variant, pending.given, batches, expected)
    return Ranking(order, interpolated(errors, found), branch)


def _order(model: Model, pending: _Pending) -> tuple[NDArray[np.int64], Array]:
    group = pending.group
    if not pending.readers:
        return _by_magnitude(model, group)
    readers = []
    for reader in pending.readers:
        W, statistics = _matrix(model, reader), pending.statistics[reader.name]
        energy = float(np.einsum("oi,ij,oj->", W, statistics.H, W, optimize=True))
        readers.append(Reader(statistics.H, W, _units(group, reader), 1 / max(energy, 1e-30)))
    removal = removal_order(readers, group.size)
    return removal.order, removal.errors


def _by_magnitude(model: Model, group: ChannelGroup) -> tuple[NDArray[np.int64], Array]:
    from modelkit.algorithms.prune.unit_norms import unit_norms

    slots = {slot: units for slot, units in group.slots.items() if slot.role.startswith("weight")}
    parts = [(weight, slot.axis, units) for slot, units in slots.items()
             if (weight := model.parameter(slot.node, slot.role)) is not None]  # fmt: skip
    scores = unit_norms(parts, group.size)
    order = np.argsort(scores, kind="stable")
    return order, np.concatenate([[0.0], np.cumsum(scores[order])])


def _matrix(model: Model, reader: Node) -> Array:
    weight = model.parameter(reader.name, "weight")
    assert weight is not None
    return matrix(reader, weight)[0].astype(np.float64)


def _units(group: ChannelGroup, reader: Node) -> NDArray[np.int64]:
    """The unit of each input of the reader's matrix, whose inputs are in the order (*kernel, channel)."""
    units = next(units for slot, units in group.readers.items() if slot.node == reader.name)
    kernel = reader.parameters["weight"].shape[2:]
    return np.tile(units, int(np.prod(kernel)))


def _set_reader(variant: Model, model: Model, reader: Node, pending: _Pending, keep: Mask, cut: Cut, ridge: float) -> None:
    """The reader, refitted to its own output without the units that are gone; where none are kept, only its mean is left."""
    W, statistics = _matrix(model, reader), pending.statistics[reader.name]
    units = _units(pending.group, reader)
    stays = np.append(keep, True)[units]
    refitted = without_inputs(statistics.H, W, stays, ridge)
    bias = model.parameter(reader.name, "bias")
    shift = (W - refitted) @ statistics.mean + (0.0 if bias is None else bias)
    now = variant.graph.by_name[reader.name]
    outputs = cut.parameters.get((reader.name, "weight"), {}).get(0, np.arange(len(W)))
    inputs = int(np.prod(now.parameters["weight"].shape[1:]))
    narrow = refitted[np.ix_(outputs, stays)] if keep.any() else np.zeros((len(outputs), inputs))
    set_layer(variant, now, narrow, shift[outputs])


def set_layer(model: Model, layer: Node, W: Array, b: Array) -> None:
    """Store a matrix (outputs, inputs) and a bias as the layer's."""
    parameter = layer.parameters["weight"]
    dtype: Any = np.dtype(parameter.dtype)
    model.set_parameter(layer.name, "weight", Dense(weight_of(layer, W[None], parameter.shape).astype(dtype)))
    model.set_parameter(layer.name, "bias", Dense(b.astype(dtype)))
