"""Element-wise operators, norms, pools and means pass labels on, and join what must have one length."""

from __future__ import annotations

import numpy as np

from modelkit.core.channels import Slot
from modelkit.core.graph import Node

from .follower import Follower, Held
from .labels import Labels, aligned, along, compact, folded, varying

_PASSED = ("cast", "cast_like", "resize", "upsample")
_SIZES = ("shape", "size", "range", "nonzero", "constant_of_shape", "one_hot")
_ORDERED = ("arg_max", "arg_min", "cum_sum", "top_k", "argmax", "argmin", "topk", "cumsum")


def elementwise(f: Follower, node: Node) -> None:
    out = node.outputs[0]
    shape = f.shape(out)
    labels, size = np.zeros((1,) * len(shape), np.int64), (1,) * len(shape)
    for edge in node.inputs:
        found = f.shape(edge)
        labels = f.pair(node, labels, size, aligned(f.at(edge), len(shape)), folded(found, len(shape)))
        size = tuple(np.broadcast_shapes(size, folded(found, len(shape))))
    f.give(node, labels)
    for role, parameter in node.parameters.items():
        f.constant(node, role, parameter, out)


def activation(f: Follower, node: Node) -> None:
    labels = f.at(node.inputs[0]) if node.inputs else np.zeros(0, np.int64)
    if node.function in _ORDERED:
        labels = f.same_along(labels, node, ())
    if len(node.inputs) > 1:
        return elementwise(f, node)
    f.give(node, labels)
    for role, parameter in node.parameters.items():
        if node.function == "prelu" and role == "weight":  # of torch: one number per channel, or for all
            if parameter.size > 1:
                f.follow(node, role, 0, node.outputs[0], 1)
        else:
            f.constant(node, role, parameter, node.outputs[0])


def norm(f: Follower, node: Node) -> None:
    edge, function, shape = node.inputs[0], node.function, f.shape(node.inputs[0])
    labels, size = f.at(edge), shape
    for extra in node.inputs[1:]:  # skip connections that are summed in the same operator
        labels = f.pair(node, labels, size, aligned(f.at(extra), len(size)), folded(f.shape(extra), len(size)))
    axis = int(node.attributes.get("axis", 1)) % max(len(shape), 1)
    if function in ("batch", "group"):
        labels = f.same_along(labels, node, (axis,))
    if function == "group":
        labels = _group_norm(f, node, labels, axis)
    elif function == "local_response":
        labels = f.same_along(labels, node, ())
    elif function in ("layer", "rms") and any(at >= axis for at in varying(labels)):
        f.inexact.append(labels)
    f.give(node, labels)
    for role, parameter in node.parameters.items():
        if function in ("batch", "instance", "group"):
            if parameter.shape == shape[axis : axis + 1]:
                f.follow(node, role, 0, node.outputs[0], axis)
        else:
            f.constant(node, role, parameter, node.outputs[0])


def _group_norm(f: Follower, node: Node, labels: Labels, axis: int) -> Labels:
    """A group norm loses whole groups, whose statistics are their own, or the same channels of each, whichever is finer."""
    groups, channels = int(node.attributes.get("groups", 1)), f.shape(node.inputs[0])[axis]
    by_group = np.broadcast_to(labels.reshape(-1), (channels,)).reshape(groups, -1)
    whole = groups > by_group.shape[1]
    f.units.join(by_group, by_group[:, :1] if whole else by_group[:1], f"{node.name} has {groups} groups of one size")
    if whole:
        f.counts[node.name, "groups"] = by_group[:, 0]
        for role, parameter in node.parameters.items():
            if parameter.shape == (groups,) and groups != channels:
                f.slots[Slot(node.name, role, 0)] = Held(by_group[:, 0], "follower")
    else:
        f.inexact.append(labels)
    return compact(f.units.live(along(by_group.reshape(-1), axis, labels.ndim)))


def softmax(f: Follower, node: Node) -> None:
    labels = f.at(node.inputs[0])
    axis = int(node.attributes.get("axis", -1)) % max(labels.ndim, 1)
    f.give(node, f.units.merge(labels, [axis], f"{node.name} is taken over it"))


def pool(f: Follower, node: Node) -> None:
    f.give(node, f.same_along(f.at(node.inputs[0]), node, (0, 1)))


def reduce(f: Follower, node: Node) -> None:
    labels, rank = f.at(node.inputs[0]), len(f.shape(node.inputs[0]))
    axes = node.attributes.get("axes")
    if node.function in _ORDERED or axes is None:
        f.same_along(labels, node, ())
        return
    if any(axis in axes for axis in varying(labels)):
        f.inexact.append(labels)
        labels = np.zeros((1,) * rank, np.int64)  # a mean over channels is no channel
    for out in node.outputs:
        if len(f.shape(out)) == rank:
            f.set(out, labels)
        elif len(f.shape(out)) == rank - len(axes):
            f.set(out, labels.reshape([size for axis, size in enumerate(labels.shape) if axis not in axes]))


def control(f: Follower, node: Node) -> None:
    f.freeze_inputs(node, f"{node.name} is control flow")


def other(f: Follower, node: Node) -> None:
    if node.kind == "other" and node.function in _SIZES:
        return
    if node.kind == "other" and (node.function in _PASSED or node.op.startswith("aten.upsample")) and node.inputs:
        labels = f.at(node.inputs[0])
        return f.give(node, labels if node.function.startswith("cast") else f.same_along(labels, node, (0, 1)))
    if node.op.startswith("aten.new_"):  # only the type is taken over
        return
    if node.op.endswith("_like") and node.inputs:
        return f.give(node, f.at(node.inputs[0]))
    if node.op == "aten.glu":
        return _gated(f, node)
    f.freeze_inputs(node, f"{node.op} is not followed")
    for role, parameter in node.parameters.items():
        for axis in range(len(parameter.shape)):
            if parameter.axes is not None and parameter.shape[axis] > 1:
                f.units.freeze(f.ids(node, role, axis), f"{node.op} is not followed")


def _gated(f: Follower, node: Node) -> None:
    """The first half of the channels times the sigmoid of the second."""
    labels, size, out = f.at(node.inputs[0]), f.shape(node.inputs[0]), f.shape(node.outputs[0])
    axis = next(at for at in range(len(size)) if size[at] != out[at])
    if labels.shape[axis] > 1:
        first, second = np.split(labels, 2, axis)
        labels = f.pair(node, first, out, second, out)
    f.give(node, labels)
