"""Products of activations join what they sum over, and keep attention heads whole."""

from __future__ import annotations

from math import prod

import numpy as np

from modelkit.core.graph import Node, Shape

from .follower import Follower
from .heads import Heads, heads_of
from .labels import Labels, aligned, along, compact, folded, varying
from .pointwise import other


def matmul(f: Follower, node: Node) -> None:
    if "equation" in node.attributes:
        return _einsum(f, node)
    plain = len(node.inputs) == 2 and not node.parameters and not {"macs", "transpose_left"} & set(node.attributes)
    if not plain or min(len(f.shape(edge)) for edge in node.inputs) < 2:
        return other(f, node)
    left, right, out = *node.inputs, node.outputs[0]
    rank = len(f.shape(out))
    a, b = aligned(f.at(left), rank), aligned(f.at(right), rank)
    f.set(out, _product(f, node, a, folded(f.shape(left), rank), b, folded(f.shape(right), rank)))


def _product(f: Follower, node: Node, a: Labels, a_shape: Shape, b: Labels, b_shape: Shape) -> Labels:
    """The labels of a product of (…, m, k) and (…, k, n), of one rank.

    Where the labels change along the dimensions in front (heads), each of the products there stays whole. Else what is summed
    over is joined and gone, and labels of rows or columns stay; of both, those of the rows are given up."""
    rank = a.ndim
    if any(axis < rank - 2 for labels in (a, b) for axis in varying(labels)):
        a, b = (f.same_along(labels, node, tuple(range(rank - 2))) for labels in (a, b))
        return f.pair(node, a, (*a_shape[:-2], 1, 1), b, (*b_shape[:-2], 1, 1))
    if rank - 1 in varying(a) or rank - 2 in varying(b):
        a, b = f.same_along(a, node, (rank - 1,)), f.same_along(b, node, (rank - 2,))
        f.pair(node, a.reshape(-1), a_shape[-1:], b.reshape(-1), a_shape[-1:])
        return np.zeros((1,) * rank, np.int64)
    if rank - 2 in varying(a) and rank - 1 in varying(b):
        a = f.same_along(a, node, ())
    return a if rank - 2 in varying(a) else b


def _einsum(f: Follower, node: Node) -> None:
    """A product of two tensors as (…, m, k) · (…, k, n): letters of both that stay are in front, others that stay are rows or
    columns, those that go are summed over. Several letters side by side count as one dimension."""
    terms, _, result = str(node.attributes["equation"]).replace(" ", "").partition("->")
    letters = terms.split(",")
    if len(letters) != 2 or len(node.inputs) != 2 or "." in terms or any(len(set(names)) < len(names) for names in letters):
        return other(f, node)
    first, second = letters
    front = [n for n in result if n in first and n in second]
    rows, columns = ([n for n in result if n in own and n not in also] for own, also in ((first, second), (second, first)))
    summed = [n for n in first if n in second and n not in result]
    if set(first + second) != {*front, *rows, *columns, *summed}:
        return other(f, node)
    sizes = {
        name: size
        for names, edge in zip(letters, node.inputs, strict=True)
        for name, size in zip(names, f.shape(edge), strict=True)
    }

    def arranged(edge: str, names: str, *groups: list[str]) -> tuple[Labels, Shape]:
        labels = f.at(edge).transpose([names.index(n) for n in (*front, *groups[0], *groups[1])])
        for group in groups:
            if len(group) != 1:
                labels = np.broadcast_to(labels, [sizes[n] for n in (*front, *groups[0], *groups[1])])
        shape = (*(sizes[n] for n in front), *(prod(sizes[n] for n in group) for group in groups))
        return compact(labels.reshape(shape) if labels.size == prod(shape) else labels), shape

    made = _product(f, node, *arranged(node.inputs[0], first, rows, summed), *arranged(node.inputs[1], second, summed, columns))
    order = [*front, *rows, *columns]
    whole = np.broadcast_to(made, [*(sizes[n] for n in front), *(prod(sizes[n] for n in group) for group in (rows, columns))])
    f.set(node.outputs[0], compact(whole.reshape([sizes[n] for n in order]).transpose([order.index(n) for n in result])))


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
            labels = f.same_along(f.at(mask), node, (len(shape) - 3,)).reshape(-1)
            units.join(np.broadcast_to(labels, (heads.query,)), np.repeat(ids, heads.query // heads.shared),
                       f"the mask of {node.name} has a part for each head")  # fmt: skip
    out = node.outputs[0]
    axis = heads.axis(f.shape(out))
    f.set(out, along(np.repeat(ids, f.shape(out)[axis] // heads.shared), axis, len(f.shape(out))))
