"""What each kind of node does with labels."""

from __future__ import annotations

from collections.abc import Callable

from modelkit.core.graph import Kind, Node

from . import layers, moving, pointwise, products
from .follower import Follower

OUTPUT = "the model's outputs keep their shape"
RULES: dict[Kind, Callable[[Follower, Node], None]] = {
    "linear": layers.linear,
    "conv": layers.conv,
    "embedding": layers.embedding,
    "recurrent": layers.recurrent,
    "matmul": products.matmul,
    "attention": products.attention,
    "norm": pointwise.norm,
    "activation": pointwise.activation,
    "elementwise": pointwise.elementwise,
    "softmax": pointwise.softmax,
    "pool": pointwise.pool,
    "reduce": pointwise.reduce,
    "concat": moving.concat,
    "reshape": moving.reshape,
    "control": pointwise.control,
    "other": pointwise.other,
}


def run(follower: Follower) -> None:
    """One pass over the graph. Joins are final, so passes are repeated until `units.version` stays."""
    graph = follower.graph
    follower.labels.clear()
    follower.inexact.clear()
    for node in graph.nodes:
        if any(graph.shape(edge) is None for edge in (*node.inputs, *node.outputs)):
            follower.freeze_inputs(node, f"shapes around {node.name} are not known")
        else:
            RULES[node.kind](follower, node)
    for edge in graph.outputs:
        follower.units.freeze(follower.at(edge), OUTPUT)
