"""Where the heads of a fused attention operator lie."""

from __future__ import annotations

from dataclasses import dataclass

from modelkit.core.graph import Graph, Node, Shape


@dataclass(frozen=True)
class Heads:
    """`query` heads, of which several read each of the `shared` heads of key and value. packed: (batch, length, heads · dim),
    with the numbers stated by the node; else (…, heads, length, dim)."""

    query: int
    shared: int
    packed: bool

    def axis(self, shape: Shape) -> int:
        return len(shape) - (1 if self.packed else 3)


def heads_of(node: Node, graph: Graph) -> Heads | None:
    """None where they can't be told: a cache or the projections are part of the operator."""
    shapes = [graph.shape(edge) for edge in node.inputs[:3]]
    if len(node.outputs) != 1 or len(shapes) < 3 or any(shape is None for shape in shapes):
        return None
    query, key, value = (shape or () for shape in shapes)
    stated = node.attributes.get("heads")
    if stated:
        shared = int(node.attributes.get("kv_heads") or stated)
        packed = len(query) == len(key) == len(value) == 3 and not query[-1] % stated and not key[-1] % shared
        return Heads(int(stated), shared, True) if packed and not stated % shared else None
    if not len(query) == len(key) == len(value) or len(query) < 3:
        return None
    if len(query) == 3:  # one head, or heads folded into the batch: then they are that axis
        return Heads(query[0], key[0], False) if query[0] == key[0] == value[0] else None
    whole = key[-3] == value[-3] and not query[-3] % max(key[-3], 1)
    return Heads(query[-3], key[-3], False) if whole else None
