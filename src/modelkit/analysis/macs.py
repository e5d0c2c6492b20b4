"""Multiply-accumulates of a model for one sample, counted over the neutral graph.

Counted: linear, convolution, recurrent, matrix products of activations, and the two products of attention. Not counted:
element-wise work, norms, softmax, look-ups.
"""

from __future__ import annotations

from itertools import permutations
from math import prod

from modelkit.core.graph import Graph, Node


def node_macs(graph: Graph, node: Node) -> int | None:
    """Multiply-accumulates of one node; 0 for kinds that are not counted, None where a needed shape is unknown
    or layers are hidden inside."""
    if node.kind == "recurrent":
        # Every step of every sequence goes through all weights once, in whichever order time and batch lie.
        sequence = graph.shape(node.inputs[0])
        weights = sum(parameter.size for role, parameter in node.parameters.items() if role.startswith("weight"))
        return prod(sequence[:-1]) * weights if sequence and weights else None
    if node.kind in ("linear", "conv"):
        weight = node.parameters.get("weight")
        if weight is None:
            return None
        # Each output of a linear or convolution takes weight.size / channels products; of a transposed one, each input does.
        transposed = bool(node.attributes.get("transposed"))
        shape = graph.shape(node.inputs[0] if transposed else node.outputs[0])
        return None if shape is None else prod(shape) * (weight.size // weight.shape[0])
    if node.kind == "matmul":
        if "macs" in node.attributes:
            return int(node.attributes["macs"])
        if "equation" in node.attributes:
            return _einsum(str(node.attributes["equation"]), node, graph)
        left, out = graph.shape(node.inputs[0]), graph.shape(node.outputs[0])
        if left is None or out is None:
            return None
        inner = left[-2] if node.attributes.get("transpose_left") and len(left) > 1 else left[-1]
        return prod(out) * inner
    if node.kind == "attention":
        if "macs" in node.attributes:
            return int(node.attributes["macs"])
        query, key, value = (graph.shape(edge) for edge in node.inputs[:3])
        if query is None or key is None or value is None:
            return None
        heads, shared = node.attributes.get("heads", 1), node.attributes.get("kv_heads", 1)
        return prod(query[:-1]) * key[-2] * (query[-1] + value[-1] * heads // shared)
    return None if node.kind == "control" and node.skip else 0


def _einsum(equation: str, node: Node, graph: Graph) -> int | None:
    """The product of the sizes of all letters. A constant may be any of the operands: the one that fits."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    shapes = [*(graph.shape(edge) for edge in node.inputs), *(parameter.shape for parameter in node.parameters.values())]
    for order in permutations(shapes):
        if len(order) != len(terms) or any(
            shape is None or len(shape) != len(names) for names, shape in zip(terms, order, strict=True)
        ):
            continue
        pairs = {pair for names, shape in zip(terms, order, strict=True) for pair in zip(names, shape or (), strict=True)}
        sizes = dict(pairs)
        if len(sizes) == len(pairs):  # each letter has one size
            return prod(sizes.values())
    return None


def total_macs(graph: Graph) -> int | None:
    """The sum over all nodes; None when any counted node's is unknown. A fixed batch in the file is divided out."""
    counts = [node_macs(graph, node) for node in graph.nodes]
    if any(count is None for count in counts):
        return None
    return sum(count for count in counts if count is not None) // common_batch(graph)


def common_batch(graph: Graph) -> int:
    """The batch size that the file fixes: the first dimension when every input and output has the same number there; else 1."""
    firsts = {spec.dims[0] if spec.dims else 1 for spec in graph.inputs}
    outputs = {(graph.shape(edge) or (None,))[0] for edge in graph.outputs}
    if len(firsts) == 1 and firsts == outputs:
        size = next(iter(firsts))
        return size if isinstance(size, int) and size > 0 else 1
    return 1
