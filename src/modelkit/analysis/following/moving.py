"""Nodes that move data are run on positions, and labels looked up where each came from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import prod

import numpy as np

from modelkit.core.channels import Positions
from modelkit.core.graph import Node, Shape

from .follower import Follower
from .labels import Labels, along, compact, varying
from .pointwise import other

_BY_INDEX = ("aten.gather", "GatherElements")  # the output has the shape of the index, which would have to be cut too
_MAKERS = ("aten.zeros", "aten.ones", "aten.full", "ConstantOfShape", "Expand")


def reshape(f: Follower, node: Node) -> None:
    if node.function == "quantize" or node.op in _BY_INDEX:
        return other(f, node)
    if node.op == "Gather" and len(node.inputs) == 2:
        labels, why = f.at(node.inputs[0]), f"{node.name} looks it up by an index that is computed"
        if node.attributes["axis"] % max(labels.ndim, 1) in varying(labels):
            return f.units.freeze(labels, why)
    if node.function == "pad" and node.inputs:
        return _pad(f, node)
    owned = (
        {role: p for role, p in node.parameters.items() if "float" in p.dtype and p.size > 1}
        if not node.inputs or not any(f.graph.edges[edge].is_float for edge in node.inputs)
        else {}
    )
    sources: dict[str, Labels] = {edge: f.at(edge) for edge in node.inputs if f.at(edge).any()}
    sources.update((role, _table(f, node, role)) for role in owned)
    if sources:
        _move(f, node, sources, {role: p.shape for role, p in owned.items()})


def _table(f: Follower, node: Node, role: str) -> Labels:
    """A constant that is moved about (a class token, learnt queries) has its channels along its only or its last axis."""
    shape = node.parameters[role].shape
    long = [axis for axis, size in enumerate(shape) if size > 1]
    labels = f.ids(node, role, long[-1])
    f.hold(node, role, long[-1], labels, "writer")
    return along(labels, long[-1], len(shape))


def concat(f: Follower, node: Node) -> None:
    sources = {edge: f.at(edge) for edge in node.inputs}
    known = next((labels for labels in sources.values() if labels.any()), None)
    if known is None:
        return
    rank, shapes = len(f.shape(node.outputs[0])), {}
    axis = int(node.attributes.get("axis", 0)) % rank
    if known.ndim == rank:  # a stack makes an axis, and its parts are found where they are moved to
        for edge, labels in sources.items():
            way = [] if labels.any() else _made(f, edge)
            if way:
                sources[edge] = _beside(f, (node.name, edge), known, f.shape(edge), axis)
            for made in way:
                f.set(made, sources[edge])
        for role, parameter in node.parameters.items():
            key = (parameter.stored, parameter.axes) if parameter.axes is not None else (node.name, role)
            sources[role], shapes[role] = _beside(f, key, known, parameter.shape, axis), parameter.shape
            for at in varying(sources[role]):
                f.hold(node, role, at, sources[role].reshape(-1), "follower")
    _move(f, node, sources, shapes)


def _beside(f: Follower, key: Hashable, known: Labels, shape: Shape, axis: int) -> Labels:
    """The labels of a constant that is concatenated: its neighbour's where they lie along another axis, else new ones."""
    others = [at for at in varying(known) if at != axis]
    if others:
        return known if axis not in varying(known) else np.zeros((1,) * known.ndim, np.int64)
    return along(f.units.of((key, axis, shape[axis]), shape[axis]), axis, len(shape))


def _made(f: Follower, edge: str) -> list[str]:
    """The edges from a tensor that is made on the spot in a stated size to `edge`, which alone comes from it; or none."""
    way = [edge]
    while f.graph.edges[edge].is_float and len(f.graph.consumers(edge)) == 1:
        maker = f.graph.producer(edge)
        if maker is None:
            break
        sources = [name for name in maker.inputs if f.graph.edges[name].is_float]
        if maker.op.startswith("aten.new_") or (maker.op in _MAKERS and not sources):
            return way
        if maker.function != "cast" or not sources:
            break
        edge = sources[0]
        way.append(edge)
    return []


def _move(f: Follower, node: Node, sources: Mapping[str, Labels], shapes: Mapping[str, Shape]) -> None:
    """Run the node on the positions of its inputs, once, and look the labels up."""
    full = {name: shapes.get(name) or f.shape(name) for name in sources}
    if node.name not in f.moves:
        f.moves[node.name] = _moved(f, node, full)
    found = f.moves[node.name]
    if found is None:
        for labels in sources.values():
            f.units.freeze(labels, f"what {node.name} does can't be followed")
        return
    flat = np.concatenate([[0], *(np.broadcast_to(labels, full[name]).ravel() for name, labels in sources.items())])
    for out, positions in found.items():
        if positions.shape == f.shape(out):
            f.set(out, compact(f.units.live(flat[positions])))
    if _keeps_places(node):
        return
    for out in found:
        for labels in sources.values():
            now = f.at(out)
            if len(varying(now)) != 1 or not np.array_equal(now.reshape(-1), f.units.live(labels).reshape(-1)):
                f.units.freeze(labels, f"{node.name} moves it in a way that is not followed")


def _moved(f: Follower, node: Node, shapes: Mapping[str, Shape]) -> dict[str, Positions] | None:
    start, given = 1, {}  # 0 stands for values that the node fills in
    for name, shape in shapes.items():
        size = prod(shape)
        given[name] = np.arange(start, start + size, dtype=np.float64).reshape(shape)
        start += size
    found = f.model.move(node.name, given)
    return None if found is None else {out: array.astype(np.int32) for out, array in found.items()}


def _pad(f: Follower, node: Node) -> None:
    labels, pads = f.at(node.inputs[0]), node.attributes.get("pads")
    if not labels.any():
        return
    if pads is None:
        return other(f, node)
    for axis in varying(labels):
        before, after = pads[axis]
        if before == after == 0:
            continue
        cut = labels.take(range(max(0, -before), labels.shape[axis] - max(0, -after)), axis)
        new = [f.units.of((node.name, axis, side), n) for side, n in enumerate((max(before, 0), max(after, 0)))]
        parts = [along(ids, axis, labels.ndim) for ids in new if len(ids)]
        if parts and varying(labels) != (axis,):
            return other(f, node)
        labels = np.concatenate([*parts[: 1 if len(new[0]) else 0], cut, *parts[1 if len(new[0]) else 0 :]], axis)
    f.set(node.outputs[0], labels)


def _keeps_places(node: Node) -> bool:
    """Whether the node still does the same when positions are missing; the others must not touch the channels' axis."""
    return not any(word in node.op.lower() for word in ("roll", "unfold", "as_strided", "diagonal", "gathernd"))
