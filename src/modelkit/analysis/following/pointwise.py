"""Element-wise operators, norms, pools and means pass labels on, and join what must have one length."""

from __future__ import annotations

import numpy as np

from modelkit.core.channels import Slot
from modelkit.core.graph import Node

from .follower import Follower, Held
from .labels import Labels, aligned, along, compact, folded, varying

_INEXACT = ("layer", "rms")
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
        if node.function == "prelu" and role == "weight":  # of torch: one number per channel
            f.follow(node, role, 0, node.outputs[0], 1)
        else:
            f.constant(node, role, parameter, node.outputs[0])


def norm(f: Follower, node: Node) -> None:
    if len(node.inputs) > 1:  # skip connections that are summed in the same operator
        labels, size = np.zeros((1,) * len(f.shape(node.inputs[0])), np.int64), (1,) * len(f.shape(node.inputs[0]))
        for edge in node.inputs:
            labels = f.pair(node, labels, size, aligned(f.at(edge), len(size)), folded(f.shape(edge), len(size)))
            size = tuple(np.broadcast_shapes(size, folded(f.shape(edge), len(size))))
    else:
        labels = f.at(node.inputs[0])
    edge, rank, function = node.inputs[0], labels.ndim, node.function
    if function in ("batch", "instance", "group"):
        labels = f.same_along(labels, node, (1,)) if function != "instance" else labels
        if function == "group":
            labels = _group_norm(f, node, labels)
        for role, parameter in node.parameters.items():
            if parameter.shape == f.shape(edge)[1:2]:
                f.follow(node, role, 0, node.outputs[0], 1)
    elif function == "local_response":
        labels = f.same_along(labels, node, ())
    else:
        first = int(node.attributes.get("axis", -1)) % max(rank, 1)
        for axis in range(first, rank):
            f.inexact.append(f.units.merge(labels, [a for a in range(first) if a], node.name) if axis == first else labels)
        for role, parameter in node.parameters.items():
            f.constant(node, role, parameter, node.outputs[0])
    f.give(node, labels)


def _group_norm(f: Follower, node: Node, labels: Labels) -> Labels:
    groups, channels = int(node.attributes.get("groups", 1)), f.shape(node.inputs[0])[1]
    each = channels // groups
    read = np.broadcast_to(labels.reshape(-1), (channels,))
    why = f"{node.name} has {groups} groups of one size"
    if groups > each:  # whole groups: their statistics are their own
        f.units.join(read.reshape(groups, each), read.reshape(groups, each)[:, :1], why)
        f.counts[node.name, "groups"] = read.reshape(groups, each)[:, 0]
    else:
        f.units.join(read.reshape(groups, each), read.reshape(groups, each)[:1], why)
        f.counts.pop((node.name, "groups"), None)
        f.inexact.append(labels)
    for role, parameter in node.parameters.items():
        if parameter.shape == (groups,) and groups > each and groups != channels:
            f.slots[Slot(node.name, role, 0)] = Held(read.reshape(groups, each)[:, 0], "follower")
    return compact(f.units.live(along(read, 1, labels.ndim)))


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
        if node.function not in _ORDERED and set(varying(labels)):
            axes = tuple(range(rank)) if len(f.shape(node.outputs[0])) == 0 else None
        if axes is None:
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
    f.freeze_inputs(node, f"{node.op} is not followed")
    for role, parameter in node.parameters.items():
        for axis in range(len(parameter.shape)):
            if parameter.axes is not None and parameter.shape[axis] > 1:
                f.units.freeze(f.ids(node, role, axis), f"{node.op} is not followed")
