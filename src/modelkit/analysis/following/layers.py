"""Layers make labels along their output channels and read them along their input channels."""

from __future__ import annotations

import numpy as np

from modelkit.core.graph import Node

from .follower import Follower, Held
from .hidden import recurrent_slots
from .labels import Labels, along, varying
from .pointwise import other


def linear(f: Follower, node: Node) -> None:
    edge, out = node.inputs[0], node.outputs[0]
    labels = f.at(edge)
    rank = labels.ndim
    if "weight" not in node.parameters:
        return other(f, node)
    written, read = f.ids(node, "weight", 0), f.ids(node, "weight", 1)
    if any(axis != rank - 1 for axis in varying(labels)) and rank - 1 not in varying(labels):
        # The channels lie along another axis, and pass. One axis is all that can be followed.
        for ids in (written, read):
            f.units.freeze(ids, f"the input of {node.name} has its channels along another axis")
        _layer_slots(f, node, written, 0, read, 1)
        return f.set(out, labels)
    labels = f.same_along(labels, node, (rank - 1,))
    f.units.join(labels.reshape(-1), read, f"{node.name} reads what stays whole")
    for extra in node.inputs[1:]:  # a Gemm's matrix
        written = f.combine(node, along(written, rank - 1, rank), f.shape(out), extra)
        written = f.same_along(written, node, (rank - 1,)).reshape(-1)
    _layer_slots(f, node, written, 0, read, 1)
    f.set(out, along(np.broadcast_to(written, (f.shape(out)[-1],)), rank - 1, rank))


def _layer_slots(f: Follower, node: Node, written: Labels, out_axis: int, read: Labels, in_axis: int) -> None:
    f.hold(node, "weight", out_axis, written, "writer")
    f.hold(node, "bias", 0, written, "writer")
    f.hold(node, "weight", in_axis, read, "reader")


def conv(f: Follower, node: Node) -> None:
    edge, out = node.inputs[0], node.outputs[0]
    if "weight" not in node.parameters or len(node.inputs) > 1:
        return other(f, node)
    labels = f.same_along(f.at(edge), node, (1,))
    groups, transposed = int(node.attributes.get("groups", 1)), bool(node.attributes.get("transposed"))
    channels, filters = f.shape(edge)[1], f.shape(out)[1]
    rank = labels.ndim
    read = np.broadcast_to(labels.reshape(-1), (channels,))
    in_axis, out_axis = (0, 1) if transposed else (1, 0)
    why = f"{node.name} reads what stays whole"
    if groups == 1:
        f.units.join(read, f.ids(node, "weight", in_axis), why)
        written = f.ids(node, "weight", out_axis)
        _layer_slots(f, node, written, out_axis, f.ids(node, "weight", in_axis), in_axis)
    else:
        written = _grouped(f, node, read, filters, groups, transposed)
    f.set(out, along(written, 1, rank))


def _grouped(f: Follower, node: Node, read: Labels, filters: int, groups: int, transposed: bool) -> Labels:
    """A grouped convolution loses whole groups, or the same channels of each group, whichever is finer."""
    units, name = f.units, node.name
    wide = f.ids(node, "weight", 0)  # as long as all filters, of a transposed one as all channels
    why = f"{name} has {groups} groups of one size"
    channels_each, filters_each = len(read) // groups, filters // groups
    if groups > min(channels_each, filters_each):
        of_group = units.of((name, "groups"), groups)
        units.join(np.repeat(of_group, channels_each), read, why)
        units.join(np.repeat(of_group, len(wide) // groups), wide, why)
        f.hold(node, "weight", 0, wide, "follower")
        f.counts[name, "groups"] = of_group
        written = np.repeat(of_group, filters_each)
        f.hold(node, "bias", 0, written, "follower")
        return written
    narrow = f.ids(node, "weight", 1)
    units.join(wide.reshape(groups, -1), wide.reshape(groups, -1)[:1], why)
    in_labels, written = (wide, np.tile(narrow, groups)) if transposed else (np.tile(narrow, groups), wide)
    units.join(read, in_labels, f"{name} reads what stays whole")
    in_axis, out_axis = (0, 1) if transposed else (1, 0)
    f.hold(node, "weight", out_axis, narrow if transposed else wide, "writer")
    f.hold(node, "bias", 0, written, "writer")
    f.hold(node, "weight", in_axis, wide if transposed else narrow, "reader")
    return written


def embedding(f: Follower, node: Node) -> None:
    if "weight" not in node.parameters or len(node.outputs) != 1:
        return other(f, node)
    written = f.ids(node, "weight", 1)
    f.hold(node, "weight", 1, written, "writer")
    rank = len(f.shape(node.outputs[0]))
    f.set(node.outputs[0], along(written, rank - 1, rank))


def recurrent(f: Follower, node: Node) -> None:
    found = recurrent_slots(node, f.graph)
    edge = node.inputs[0]
    labels = f.same_along(f.at(edge), node, (len(f.shape(edge)) - 1,)).reshape(-1)
    if found is None:
        f.units.freeze(labels, f"{node.name} is a recurrent operator of a kind that is not followed")
        return
    hidden = f.units.of((node.name, "hidden"), found.hidden)
    read = np.broadcast_to(labels, (f.shape(edge)[-1],))
    for slot, reads, positions in found.slots:
        of = read if reads else hidden
        f.slots[slot] = Held(of[positions], "reader" if reads or "hidden" in slot.role or "_hh" in slot.role else "writer")
    f.counts[node.name, "hidden"] = hidden
    for state in node.inputs[1:]:
        if len(f.shape(state)) == 3 and f.shape(state)[-1] == found.hidden:
            _initial(f, node, state, hidden)
    for out in node.outputs:
        shape = f.shape(out)
        repeated = np.tile(hidden, shape[-1] // found.hidden) if shape else hidden
        f.set(out, along(repeated, len(shape) - 1, len(shape)))


def _initial(f: Follower, node: Node, state: str, hidden: Labels) -> None:
    """A state that a recurrent operator starts from: made on the spot in the size that is needed, or joined."""
    while True:
        labels = f.at(state)
        if labels.any():
            f.units.join(labels, along(hidden, labels.ndim - 1, labels.ndim), f"{node.name} starts from what stays whole")
            return
        maker = f.graph.producer(state)
        sources = [edge for edge in maker.inputs if f.graph.edges[edge].is_float] if maker else []
        if maker is None or len(sources) > 1 or any(f.shape(edge)[-1:] != (len(hidden),) for edge in sources):
            f.units.freeze(hidden, f"{node.name} starts from a state that stays whole")
            return
        f.set(state, along(hidden, len(f.shape(state)) - 1, len(f.shape(state))))
        if not sources:
            return
        state = sources[0]
