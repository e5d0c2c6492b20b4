"""Products of activations join what they sum over, and keep attention heads whole."""

from __future__ import annotations

import numpy as np

from modelkit.core.graph import Node

from .follower import Follower
from .heads import Heads, heads_of
from .labels import aligned, along, folded, varying
from .pointwise import other


def matmul(f: Follower, node: Node) -> None:
    left, right, out = *node.inputs[:2], node.outputs[0]
    plain = node.function == "" and "macs" not in node.attributes and not node.attributes.get("transpose_left")
    if len(node.inputs) != 2 or not plain or min(len(f.shape(left)), len(f.shape(right))) < 2 or node.parameters:
        return other(f, node)
    rank = len(f.shape(out))
    a, b = aligned(f.at(left), rank), aligned(f.at(right), rank)
    if any(axis < rank - 2 for labels in (a, b) for axis in varying(labels)):
        a, b = (f.same_along(labels, node, tuple(range(rank - 2))) for labels in (a, b))
        shapes = [(*folded(f.shape(edge), rank)[:-2], 1, 1) for edge in (left, right)]
        return f.set(out, f.pair(node, a, shapes[0], b, shapes[1]))
    if rank - 1 in varying(a) or rank - 2 in varying(b):
        a, b = f.same_along(a, node, (rank - 1,)), f.same_along(b, node, (rank - 2,))
        size = (f.shape(left)[-1],)
        f.pair(node, a.reshape(-1), size, b.reshape(-1), size)
        return
    if rank - 2 in varying(a) and rank - 1 in varying(b):
        a = f.same_along(a, node, ())
    f.set(out, a if rank - 2 in varying(a) else b)


def attention(f: Follower, node: Node) -> None:
    heads = heads_of(node, f.graph)
    if heads is None or node.parameters:
        return other(f, node)
    _attend(f, node, heads)


def _attend(f: Follower, node: Node, heads: Heads) -> None:
    """Query, key and value lose whole heads, with the key and value heads that several query heads share."""
    units = f.units
    ids = units.of((node.name, "heads"), heads.shared)
    if heads.shared == 1:
        ids = np.zeros(1, np.int64)
    for edge, count in zip(node.inputs[:3], (heads.query, heads.shared, heads.shared), strict=True):
        labels = f.same_along(f.at(edge), node, (heads.axis(f.shape(edge)),)).reshape(-1)
        size = f.shape(edge)[heads.axis(f.shape(edge))]
        units.join(np.broadcast_to(labels, (size,)), np.repeat(ids, size // heads.shared),
                   f"{node.name} reads what stays whole" if labels.any() else f"{node.name} has heads of its own")  # fmt: skip
        if heads.packed:
            f.counts[node.name, "heads" if count == heads.query else "kv_heads"] = np.repeat(ids, count // heads.shared)
    for mask in node.inputs[3:]:
        shape = f.shape(mask)
        if len(shape) >= 3 and shape[-3] == heads.query and heads.query > 1:
            units.freeze(ids, f"the mask of {node.name} has a part for each head")
    out = node.outputs[0]
    axis = heads.axis(f.shape(out))
    f.set(out, along(np.repeat(ids, f.shape(out)[axis] // heads.shared), axis, len(f.shape(out))))
