"""Following labels through a graph: what each kind of node does with them.

Layers make labels along their output channels and read them along their input channels; nodes that move data are run on the
labels; everything else passes them on, joining what must have one length. A value that depends on all channels at once (a
softmax over them) makes one unit of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from modelkit.core.channels import Positions, Slot
from modelkit.core.graph import Node, Parameter, Shape
from modelkit.core.model import Model

from .attention import Heads, heads_of
from .labels import Labels, Units, aligned, along, compact, folded, varying
from .recurrent import recurrent_slots

OUTPUT = "the model's outputs keep their shape"
# Sums over channels of which some are zero stay as they are; these statistics do not.
_INEXACT_NORMS = ("layer", "rms", "group", "instance")
_PASSED = ("cast", "cast_like", "resize", "upsample")
_SIZES = ("shape", "size", "range", "nonzero", "constant_of_shape", "one_hot")
_ORDERED = ("arg_max", "arg_min", "cum_sum", "top_k", "argmax", "argmin", "topk", "cumsum")


@dataclass(frozen=True)
class Held:
    """The labels along one axis of a parameter, or of the edge that a constant is as long as."""

    labels: Labels
    role: str  # writer, reader or follower


class Follower:
    """Labels of every edge, after `run` has been called until `units.version` stays."""

    def __init__(self, model: Model) -> None:
        self.model, self.graph, self.units = model, model.graph, Units()
        self.labels: dict[str, Labels] = {}
        self.slots: dict[Slot, Held] = {}
        self.behind: dict[Slot, tuple[str, int]] = {}  # constants that are as long as an axis of an edge
        self.counts: dict[tuple[str, str], Labels] = {}
        self.inexact: list[Labels] = []
        self._moves: dict[str, dict[str, Positions] | None] = {}

    def run(self) -> None:
        """One pass over the graph."""
        self.labels.clear()
        self.inexact.clear()
        for node in self.graph.nodes:
            if any(self.graph.shape(edge) is None for edge in (*node.inputs, *node.outputs)):
                self._freeze_inputs(node, f"shapes around {node.name} are not known")
                continue
            getattr(self, f"_{node.kind}")(node)
        for edge in self.graph.outputs:
            self.units.freeze(self.at(edge), OUTPUT)

    def at(self, edge: str) -> Labels:
        """An edge's labels as they are known now, compact."""
        found = self.labels.get(edge)
        if found is None:
            return np.zeros((1,) * len(self.graph.shape(edge) or ()), np.int64)
        return compact(self.units.live(found))

    def shape(self, edge: str) -> Shape:
        return self.graph.shape(edge) or ()

    def _set(self, edge: str, labels: Labels) -> None:
        if labels.any():
            self.labels[edge] = labels

    def _freeze_inputs(self, node: Node, why: str) -> None:
        for edge in node.inputs:
            if self.graph.shape(edge) is not None:
                self.units.freeze(self.at(edge), why)

    def _ids(self, node: Node, role: str, axis: int) -> Labels:
        """The labels of one axis of a parameter: of the stored tensor's, so that tied weights share them. An axis of length 1
        has none: it can't get shorter."""
        parameter = node.parameters[role]
        count = parameter.shape[axis]
        if count == 1:
            return np.zeros(1, np.int64)
        key = (parameter.stored, parameter.axes[axis]) if parameter.axes is not None else (node.name, role, axis)
        return self.units.of((*key, count), count)

    def _hold(self, node: Node, role: str, axis: int, labels: Labels, part: str) -> None:
        if role in node.parameters:
            self.slots[Slot(node.name, role, axis)] = Held(labels, part)

    def _follow(self, node: Node, role: str, axis: int, edge: str, edge_axis: int) -> None:
        self.behind[Slot(node.name, role, axis)] = (edge, edge_axis)

    def _same_along(self, labels: Labels, node: Node, keep: tuple[int, ...]) -> Labels:
        """Labels made equal along all axes but `keep`."""
        others = [axis for axis in range(labels.ndim) if axis not in keep]
        return self.units.merge(labels, others, f"{node.name} needs whole positions of it")

    # Layers

    def _linear(self, node: Node) -> None:
        edge, out = node.inputs[0], node.outputs[0]
        labels = self.at(edge)
        rank = labels.ndim
        if "weight" not in node.parameters:
            return self._other(node)
        written, read = self._ids(node, "weight", 0), self._ids(node, "weight", 1)
        if any(axis != rank - 1 for axis in varying(labels)) and rank - 1 not in varying(labels):
            # The channels lie along another axis, and pass. One axis is all that can be followed.
            self.units.freeze(written, f"the input of {node.name} has its channels along another axis")
            self.units.freeze(read, f"the input of {node.name} has its channels along another axis")
            return self._set(out, labels)
        labels = self._same_along(labels, node, (rank - 1,))
        self.units.join(labels.reshape(-1), read, f"{node.name} reads what stays whole")
        for extra in node.inputs[1:]:  # a Gemm's matrix
            written = self._combine(node, along(written, rank - 1, rank), self.shape(out), extra)
            written = self._same_along(written, node, (rank - 1,)).reshape(-1)
        self._layer_slots(node, written, 0, read, 1)
        self._set(out, along(np.broadcast_to(written, (self.shape(out)[-1],)), rank - 1, rank))

    def _layer_slots(self, node: Node, written: Labels, out_axis: int, read: Labels, in_axis: int) -> None:
        self._hold(node, "weight", out_axis, written, "writer")
        self._hold(node, "bias", 0, written, "writer")
        self._hold(node, "weight", in_axis, read, "reader")

    def _conv(self, node: Node) -> None:
        edge, out = node.inputs[0], node.outputs[0]
        if "weight" not in node.parameters or len(node.inputs) > 1:
            return self._other(node)
        labels = self._same_along(self.at(edge), node, (1,))
        groups, transposed = int(node.attributes.get("groups", 1)), bool(node.attributes.get("transposed"))
        channels, filters = self.shape(edge)[1], self.shape(out)[1]
        rank = labels.ndim
        read = np.broadcast_to(labels.reshape(-1), (channels,))
        in_axis, out_axis = (0, 1) if transposed else (1, 0)
        why = f"{node.name} reads what stays whole"
        if groups == 1:
            self.units.join(read, self._ids(node, "weight", in_axis), why)
            written = self._ids(node, "weight", out_axis)
            self._layer_slots(node, written, out_axis, self._ids(node, "weight", in_axis), in_axis)
        else:
            written = self._grouped(node, read, filters, groups, transposed)
        self._set(out, along(written, 1, rank))

    def _grouped(self, node: Node, read: Labels, filters: int, groups: int, transposed: bool) -> Labels:
        """A grouped convolution loses whole groups, or the same channels of each group, whichever is finer."""
        units, name = self.units, node.name
        wide = self._ids(node, "weight", 0)  # as long as all filters, of a transposed one as all channels
        why = f"{name} has {groups} groups of one size"
        channels_each, filters_each = len(read) // groups, filters // groups
        if groups > min(channels_each, filters_each):
            of_group = units.of((name, "groups"), groups)
            units.join(np.repeat(of_group, channels_each), read, why)
            units.join(np.repeat(of_group, len(wide) // groups), wide, why)
            self._hold(node, "weight", 0, wide, "follower")
            self.counts[name, "groups"] = of_group
            written = np.repeat(of_group, filters_each)
            self._hold(node, "bias", 0, written, "follower")
            return written
        narrow = self._ids(node, "weight", 1)
        units.join(wide.reshape(groups, -1), wide.reshape(groups, -1)[:1], why)
        in_labels, written = (wide, np.tile(narrow, groups)) if transposed else (np.tile(narrow, groups), wide)
        units.join(read, in_labels, f"{name} reads what stays whole")
        in_axis, out_axis = (0, 1) if transposed else (1, 0)
        self._hold(node, "weight", out_axis, narrow if transposed else wide, "writer")
        self._hold(node, "bias", 0, written, "writer")
        self._hold(node, "weight", in_axis, wide if transposed else narrow, "reader")
        return written

    def _embedding(self, node: Node) -> None:
        if "weight" not in node.parameters or len(node.outputs) != 1:
            return self._other(node)
        written = self._ids(node, "weight", 1)
        self._hold(node, "weight", 1, written, "writer")
        rank = len(self.shape(node.outputs[0]))
        self._set(node.outputs[0], along(written, rank - 1, rank))

    def _recurrent(self, node: Node) -> None:
        found = recurrent_slots(node, self.graph)
        edge = node.inputs[0]
        labels = self._same_along(self.at(edge), node, (len(self.shape(edge)) - 1,)).reshape(-1)
        if found is None:
            self.units.freeze(labels, f"{node.name} is a recurrent operator of a kind that is not followed")
            return
        hidden = self.units.of((node.name, "hidden"), found.hidden)
        read = np.broadcast_to(labels, (self.shape(edge)[-1],))
        for slot, reads, positions in found.slots:
            of = read if reads else hidden
            self.slots[slot] = Held(of[positions], "reader" if reads or "hidden" in slot.role or "_hh" in slot.role else "writer")
        self.counts[node.name, "hidden"] = hidden
        for state in node.inputs[1:]:
            if len(self.shape(state)) == 3 and self.shape(state)[-1] == found.hidden:
                self._initial(node, state, hidden)
        for out in node.outputs:
            shape = self.shape(out)
            repeated = np.tile(hidden, shape[-1] // found.hidden) if shape else hidden
            self._set(out, along(repeated, len(shape) - 1, len(shape)))

    def _initial(self, node: Node, state: str, hidden: Labels) -> None:
        """A state that a recurrent operator starts from: made on the spot in the size that is needed, or joined."""
        while True:
            labels = self.at(state)
            if labels.any():
                self.units.join(labels, along(hidden, labels.ndim - 1, labels.ndim), f"{node.name} starts from what stays whole")
                return
            maker = self.graph.producer(state)
            sources = [edge for edge in maker.inputs if self.graph.edges[edge].is_float] if maker else []
            if maker is None or len(sources) > 1 or any(self.shape(edge)[-1:] != (len(hidden),) for edge in sources):
                self.units.freeze(hidden, f"{node.name} starts from a state that stays whole")
                return
            self._set(state, along(hidden, len(self.shape(state)) - 1, len(self.shape(state))))
            if not sources:
                return
            state = sources[0]

    # Products of activations

    def _matmul(self, node: Node) -> None:
        left, right, out = *node.inputs[:2], node.outputs[0]
        plain = node.function == "" and "macs" not in node.attributes and not node.attributes.get("transpose_left")
        if len(node.inputs) != 2 or not plain or min(len(self.shape(left)), len(self.shape(right))) < 2 or node.parameters:
            return self._other(node)
        rank = len(self.shape(out))
        a, b = aligned(self.at(left), rank), aligned(self.at(right), rank)
        if any(axis < rank - 2 for labels in (a, b) for axis in varying(labels)):
            a, b = (self._same_along(labels, node, tuple(range(rank - 2))) for labels in (a, b))
            shapes = [(*folded(self.shape(edge), rank)[:-2], 1, 1) for edge in (left, right)]
            return self._set(out, self._pair(node, a, shapes[0], b, shapes[1]))
        if rank - 1 in varying(a) or rank - 2 in varying(b):
            a, b = self._same_along(a, node, (rank - 1,)), self._same_along(b, node, (rank - 2,))
            size = (self.shape(left)[-1],)
            self._pair(node, a.reshape(-1), size, b.reshape(-1), size)
            return
        if rank - 2 in varying(a) and rank - 1 in varying(b):
            a = self._same_along(a, node, ())
        self._set(out, a if rank - 2 in varying(a) else b)

    def _attention(self, node: Node) -> None:
        heads = heads_of(node, self.graph)
        if heads is None or node.parameters:
            return self._other(node)
        self._attend(node, heads)

    def _attend(self, node: Node, heads: Heads) -> None:
        """Query, key and value lose whole heads, with the key and value heads that several query heads share."""
        units = self.units
        ids = units.of((node.name, "heads"), heads.shared)
        if heads.shared == 1:
            ids = np.zeros(1, np.int64)
        for edge, count in zip(node.inputs[:3], (heads.query, heads.shared, heads.shared), strict=True):
            labels = self._same_along(self.at(edge), node, (heads.axis(self.shape(edge)),)).reshape(-1)
            size = self.shape(edge)[heads.axis(self.shape(edge))]
            units.join(np.broadcast_to(labels, (size,)), np.repeat(ids, size // heads.shared),
                       f"{node.name} reads what stays whole" if labels.any() else f"{node.name} has heads of its own")  # fmt: skip
            if heads.packed:
                self.counts[node.name, "heads" if count == heads.query else "kv_heads"] = np.repeat(ids, count // heads.shared)
        for mask in node.inputs[3:]:
            shape = self.shape(mask)
            if len(shape) >= 3 and shape[-3] == heads.query and heads.query > 1:
                units.freeze(ids, f"the mask of {node.name} has a part for each head")
        out = node.outputs[0]
        axis = heads.axis(self.shape(out))
        self._set(out, along(np.repeat(ids, self.shape(out)[axis] // heads.shared), axis, len(self.shape(out))))

    # Element by element

    def _elementwise(self, node: Node) -> None:
        out = node.outputs[0]
        shape = self.shape(out)
        labels, size = np.zeros((1,) * len(shape), np.int64), (1,) * len(shape)
        for edge in node.inputs:
            found = self.shape(edge)
            labels = self._pair(node, labels, size, aligned(self.at(edge), len(shape)), folded(found, len(shape)))
            size = tuple(np.broadcast_shapes(size, folded(found, len(shape))))
        self._pass(node, labels)
        for role, parameter in node.parameters.items():
            self._constant(node, role, parameter, out)

    def _combine(self, node: Node, labels: Labels, shape: Shape, edge: str) -> Labels:
        return self._pair(node, labels, shape, aligned(self.at(edge), len(shape)), folded(self.shape(edge), len(shape)))

    def _pair(self, node: Node, a: Labels, a_shape: Shape, b: Labels, b_shape: Shape) -> Labels:
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

    def _constant(self, node: Node, role: str, parameter: Parameter, edge: str) -> None:
        """A constant that broadcasts against an edge is as long as its axes are."""
        rank = len(self.shape(edge))
        for axis, size in enumerate(parameter.shape):
            at = axis + rank - len(parameter.shape)
            if size > 1 and at >= 0 and size == self.shape(edge)[at]:
                self._follow(node, role, axis, edge, at)

    def _activation(self, node: Node) -> None:
        labels = self.at(node.inputs[0]) if node.inputs else np.zeros(0, np.int64)
        if node.function in _ORDERED:
            labels = self._same_along(labels, node, ())
        if len(node.inputs) > 1:
            return self._elementwise(node)
        self._pass(node, labels)
        for role, parameter in node.parameters.items():
            if node.function == "prelu" and role == "weight":  # of torch: one number per channel
                self._follow(node, role, 0, node.outputs[0], 1)
            else:
                self._constant(node, role, parameter, node.outputs[0])

    def _pass(self, node: Node, labels: Labels) -> None:
        for out in node.outputs:
            if len(self.shape(out)) == labels.ndim:
                self._set(out, labels)

    def _norm(self, node: Node) -> None:
        if len(node.inputs) > 1:  # skip connections that are summed in the same operator
            labels, size = np.zeros((1,) * len(self.shape(node.inputs[0])), np.int64), (1,) * len(self.shape(node.inputs[0]))
            for edge in node.inputs:
                labels = self._pair(node, labels, size, aligned(self.at(edge), len(size)), folded(self.shape(edge), len(size)))
                size = tuple(np.broadcast_shapes(size, folded(self.shape(edge), len(size))))
        else:
            labels = self.at(node.inputs[0])
        edge, rank, function = node.inputs[0], labels.ndim, node.function
        if function in ("batch", "instance", "group"):
            labels = self._same_along(labels, node, (1,)) if function != "instance" else labels
            if function == "group":
                labels = self._group_norm(node, labels)
            for role, parameter in node.parameters.items():
                if parameter.shape == self.shape(edge)[1:2]:
                    self._follow(node, role, 0, node.outputs[0], 1)
        elif function == "local_response":
            labels = self._same_along(labels, node, ())
        else:
            first = int(node.attributes.get("axis", -1)) % max(rank, 1)
            for axis in range(first, rank):
                self.inexact.append(
                    self.units.merge(labels, [a for a in range(first) if a], node.name) if axis == first else labels
                )
            for role, parameter in node.parameters.items():
                self._constant(node, role, parameter, node.outputs[0])
        self._pass(node, labels)

    def _group_norm(self, node: Node, labels: Labels) -> Labels:
        groups, channels = int(node.attributes.get("groups", 1)), self.shape(node.inputs[0])[1]
        each = channels // groups
        read = np.broadcast_to(labels.reshape(-1), (channels,))
        why = f"{node.name} has {groups} groups of one size"
        if groups > each:  # whole groups: their statistics are their own
            self.units.join(read.reshape(groups, each), read.reshape(groups, each)[:, :1], why)
            self.counts[node.name, "groups"] = read.reshape(groups, each)[:, 0]
        else:
            self.units.join(read.reshape(groups, each), read.reshape(groups, each)[:1], why)
            self.counts.pop((node.name, "groups"), None)
            self.inexact.append(labels)
        for role, parameter in node.parameters.items():
            if parameter.shape == (groups,) and groups > each and groups != channels:
                self.slots[Slot(node.name, role, 0)] = Held(read.reshape(groups, each)[:, 0], "follower")
        return compact(self.units.live(along(read, 1, labels.ndim)))

    def _softmax(self, node: Node) -> None:
        labels = self.at(node.inputs[0])
        axis = int(node.attributes.get("axis", -1)) % max(labels.ndim, 1)
        self._pass(node, self.units.merge(labels, [axis], f"{node.name} is taken over it"))

    def _pool(self, node: Node) -> None:
        self._pass(node, self._same_along(self.at(node.inputs[0]), node, (0, 1)))

    def _reduce(self, node: Node) -> None:
        labels, rank = self.at(node.inputs[0]), len(self.shape(node.inputs[0]))
        axes = node.attributes.get("axes")
        if node.function in _ORDERED or axes is None:
            if node.function not in _ORDERED and set(varying(labels)):
                axes = tuple(range(rank)) if len(self.shape(node.outputs[0])) == 0 else None
            if axes is None:
                self._same_along(labels, node, ())
                return
        if any(axis in axes for axis in varying(labels)):
            self.inexact.append(labels)
            labels = np.zeros((1,) * rank, np.int64)  # a mean over channels is no channel
        for out in node.outputs:
            if len(self.shape(out)) == rank:
                self._set(out, labels)
            elif len(self.shape(out)) == rank - len(axes):
                self._set(out, labels.reshape([size for axis, size in enumerate(labels.shape) if axis not in axes]))

    # Moving data

    def _reshape(self, node: Node) -> None:
        if node.function == "quantize":
            return self._other(node)
        if node.function == "pad" and node.inputs:
            return self._pad(node)
        owned = (
            {role: p for role, p in node.parameters.items() if "float" in p.dtype and p.size > 1}
            if not node.inputs or not any(self.graph.edges[edge].is_float for edge in node.inputs)
            else {}
        )
        sources: dict[str, Labels] = {edge: self.at(edge) for edge in node.inputs if self.at(edge).any()}
        sources.update((role, self._table(node, role)) for role in owned)
        if sources:
            self._move(node, sources, {role: p.shape for role, p in owned.items()})

    def _table(self, node: Node, role: str) -> Labels:
        """A constant that is moved about (a class token, learnt queries) has its channels along its only or its last axis."""
        shape = node.parameters[role].shape
        long = [axis for axis, size in enumerate(shape) if size > 1]
        labels = self._ids(node, role, long[-1])
        self._hold(node, role, long[-1], labels, "writer")
        return along(labels, long[-1], len(shape))

    def _concat(self, node: Node) -> None:
        sources = {edge: self.at(edge) for edge in node.inputs}
        if not any(labels.any() for labels in sources.values()):
            return
        rank, shapes = len(self.shape(node.outputs[0])), {}
        for role, parameter in node.parameters.items():
            sources[role], shapes[role] = self._beside(node, role, parameter, sources, rank), parameter.shape
        self._move(node, sources, shapes)

    def _beside(self, node: Node, role: str, parameter: Parameter, sources: Mapping[str, Labels], rank: int) -> Labels:
        """The labels of a constant that is concatenated: those of its neighbour where they lie along another axis."""
        axis = int(node.attributes.get("axis", 0)) % rank
        other = next((labels for labels in sources.values() if labels.any()), None)
        if other is None or other.ndim != len(parameter.shape):
            return np.zeros((1,) * len(parameter.shape), np.int64)
        along_other = [at for at in varying(other) if at != axis]
        at = along_other[0] if along_other else axis
        if parameter.shape[at] == 1:
            return np.zeros((1,) * len(parameter.shape), np.int64)
        if along_other:
            self._follow(node, role, at, node.outputs[0], at)
            return other if axis not in varying(other) else np.zeros((1,) * other.ndim, np.int64)
        labels = self._ids(node, role, at)
        self._hold(node, role, at, labels, "follower")
        return along(labels, at, len(parameter.shape))

    def _move(self, node: Node, sources: Mapping[str, Labels], shapes: Mapping[str, Shape]) -> None:
        """Run the node on the positions of its inputs, once, and look the labels up."""
        full = {name: shapes.get(name) or self.shape(name) for name in sources}
        if node.name not in self._moves:
            self._moves[node.name] = self._moved(node, full)
        found = self._moves[node.name]
        if found is None:
            for labels in sources.values():
                self.units.freeze(labels, f"what {node.name} does can't be followed")
            return
        flat = np.concatenate([[0], *(np.broadcast_to(labels, full[name]).ravel() for name, labels in sources.items())])
        for out, positions in found.items():
            if positions.shape == self.shape(out):
                self._set(out, compact(self.units.live(flat[positions])))
        if _keeps_places(node):
            return
        for out in found:
            for labels in sources.values():
                now = self.at(out)
                if len(varying(now)) != 1 or not np.array_equal(now.reshape(-1), self.units.live(labels).reshape(-1)):
                    self.units.freeze(labels, f"{node.name} moves it in a way that is not followed")

    def _moved(self, node: Node, shapes: Mapping[str, Shape]) -> dict[str, Positions] | None:
        start, given = 1, {}  # 0 stands for values that the node fills in
        for name, shape in shapes.items():
            size = prod(shape)
            given[name] = np.arange(start, start + size, dtype=np.float64).reshape(shape)
            start += size
        found = self.model.move(node.name, given)
        return None if found is None else {out: array.astype(np.int32) for out, array in found.items()}

    def _pad(self, node: Node) -> None:
        labels, pads = self.at(node.inputs[0]), node.attributes.get("pads")
        if not labels.any():
            return
        if pads is None:
            return self._other(node)
        for axis in varying(labels):
            before, after = pads[axis]
            if before == after == 0:
                continue
            cut = labels.take(range(max(0, -before), labels.shape[axis] - max(0, -after)), axis)
            new = [self.units.of((node.name, axis, side), n) for side, n in enumerate((max(before, 0), max(after, 0)))]
            parts = [along(ids, axis, labels.ndim) for ids in new if len(ids)]
            if parts and varying(labels) != (axis,):
                return self._other(node)
            labels = np.concatenate([*parts[: 1 if len(new[0]) else 0], cut, *parts[1 if len(new[0]) else 0 :]], axis)
        self._set(node.outputs[0], labels)

    # The rest

    def _control(self, node: Node) -> None:
        self._freeze_inputs(node, f"{node.name} is control flow")

    def _other(self, node: Node) -> None:
        if node.kind == "other" and node.function in _SIZES:
            return
        if node.kind == "other" and (node.function in _PASSED or node.op.startswith("aten.upsample")) and node.inputs:
            labels = self.at(node.inputs[0])
            return self._pass(node, labels if node.function.startswith("cast") else self._same_along(labels, node, (0, 1)))
        self._freeze_inputs(node, f"{node.op} is not followed")
        for role, parameter in node.parameters.items():
            for axis in range(len(parameter.shape)):
                if parameter.axes is not None and parameter.shape[axis] > 1:
                    self.units.freeze(self._ids(node, role, axis), f"{node.op} is not followed")


def _keeps_places(node: Node) -> bool:
    """Whether the node still does the same when positions are missing; the others must not touch the channels' axis."""
    return not any(word in node.op.lower() for word in ("roll", "unfold", "as_strided", "diagonal", "gathernd", "gatherelements"))


def _overlap(a: Labels, a_shape: Shape, b: Labels, b_shape: Shape) -> bool:
    """Whether one side's labels change along an axis where the other one, all of one unit, has its full length too."""
    pairs = zip(a.shape, a_shape, b.shape, b_shape, strict=True)
    return any((x > 1 and bs > 1) or (y > 1 and as_ > 1) for x, as_, y, bs in pairs) or (a.size == b.size == 1)
