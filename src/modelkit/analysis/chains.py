"""Chains of layers that would take the place of others, as a neutral graph: what may be asked of a graph (MACs, parameters, time)
can be asked of them before they are made."""

from __future__ import annotations

from collections.abc import Mapping

from modelkit.core.forms import Array, numpy_dtype
from modelkit.core.graph import Edge, Graph, Kind, Node, Parameter, Shape
from modelkit.core.lowrank import LowRank, stages

from .products import convolved, weight_of


def reason_against(graph: Graph, layer: Node) -> str | None:
    """None, or why a layer can't be factorised."""
    weight = layer.parameters.get("weight")
    if layer.skip:
        return layer.skip
    if layer.kind not in ("linear", "conv", "embedding"):
        return f"{layer.kind} operator"
    if weight is None:
        return "no constant weight"
    if weight.form != "dense":
        return f"already {weight.form}: factorise before quantising"
    if "float" not in weight.dtype:
        return f"weight is {weight.dtype}"
    if layer.kind == "conv" and layer.attributes.get("transposed"):
        return "transposed convolution"
    if layer.kind == "conv" and int(layer.attributes.get("groups", 1)) > 1:
        return "depthwise or grouped convolution: each output reads few channels already"
    if graph.is_shared(weight):
        return "its weight is shared with another layer"
    if graph.shape(layer.inputs[0]) is None or graph.shape(layer.outputs[0]) is None:
        return "the shape of its input is unknown"
    return None


def two_factors(layer: Node, right: Array, left: Array) -> LowRank:
    """right (rank, in) and left (out, rank) of the layer's weight as a matrix, as its form: the first factor of a convolution has
    the kernel."""
    if layer.kind == "embedding":
        return LowRank((right.T.copy(), left), lookup=True)
    if layer.kind == "linear":
        return LowRank((right, left))
    channels, *kernel = layer.parameters["weight"].shape[1:]
    first = weight_of(layer, right[None], (len(right), channels, *kernel))
    return LowRank((first, left.reshape(*left.shape, *(1,) * len(kernel))))


def alone(graph: Graph, layers: list[Node]) -> Graph:
    """The layers themselves as a graph."""
    edges = {edge: graph.edges[edge] for layer in layers for edge in (*layer.inputs[:1], *layer.outputs)}
    return Graph(tuple(layers), edges, (), ())


def chained(graph: Graph, forms: Mapping[str, LowRank]) -> Graph:
    """The chains that take the place of these layers; first factors that are the same array are one layer."""
    nodes: list[Node] = []
    edges: dict[str, Edge] = {}
    shared: dict[tuple[str, int], str] = {}
    for name, form in forms.items():
        layer = graph.by_name[name]
        dtype, source = layer.parameters["weight"].dtype, layer.inputs[0]
        edges[source], edges[layer.outputs[0]] = graph.edges[source], graph.edges[layer.outputs[0]]
        value_type = edges[layer.outputs[0]].dtype
        spread = stages(layer, form) if layer.kind == "conv" else None
        for index, factor in enumerate(form.factors):
            last = index == len(form.factors) - 1
            key = (source, id(factor))
            if index == 0 and key in shared:
                source = shared[key]
                continue
            kind: Kind = "linear" if layer.kind == "embedding" and index else layer.kind
            attributes = dict(layer.attributes)
            if spread is not None:
                stage = spread[index]
                attributes |= {"stride": stage.stride, "padding": stage.padding, "dilation": stage.dilation}
            target = layer.outputs[0] if last else f"{name}.{index}"
            parameters = {"weight": _parameter(f"{name}.{index}", factor, dtype)}
            if last and "bias" in layer.parameters:
                parameters["bias"] = layer.parameters["bias"]
            node = Node(f"{name}.{index}", kind, layer.op, (source,), (target,), parameters, attributes)
            if not last:
                edges[target] = Edge(target, _output(edges[source].shape or (), node, factor), value_type)
            if index == 0:
                shared[key] = target
            nodes.append(node)
            source = target
    return Graph(tuple(nodes), edges, (), ())


def _parameter(name: str, factor: Array, dtype: str) -> Parameter:
    return Parameter(name, factor.shape, dtype, factor.size * numpy_dtype(dtype).itemsize, stored=(name,))


def _output(source: Shape, node: Node, factor: Array) -> Shape:
    if node.kind == "embedding":
        return *source, factor.shape[1]
    if node.kind == "linear":
        return *source[:-1], factor.shape[0]
    return source[0], factor.shape[0], *convolved(source[2:], factor.shape[2:], node.attributes)
