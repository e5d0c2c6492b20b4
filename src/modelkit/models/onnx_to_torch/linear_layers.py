"""MatMul or Gemm with a constant weight becomes torch's linear layer, its weight stored (out, in) as torch has it.

Without this a fully connected layer would be a matmul, a transpose and an add, which nothing in torch recognises as a layer.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx

from .node import Node
from .plan import Constant, Plan


def fuse_linear_layers(plan: Plan) -> None:
    """Rewrite the main graph of a plan in place."""
    readers: Counter[str] = Counter(plan.outputs)
    for part in plan.walk():
        for node in part.nodes:
            readers.update(node.inputs)
            readers.update(name for subgraph in node.graphs.values() for name in _captured(subgraph))
    constant_readers: Counter[int] = Counter()
    for part in plan.walk():
        constant_readers.update({id(constant): readers[name] for name, constant in part.constants.items()})
    producers = {output: node for node in plan.nodes for output in node.outputs}
    layers = [layer for node in plan.nodes if (layer := _linear(node, plan, producers)) is not None]
    _store_transposed(layers, plan, constant_readers)
    replaced = {layer.outputs[0]: layer for layer in layers}
    plan.nodes = [replaced.get(node.outputs[0], node) for node in plan.nodes]
    _take_biases(plan, replaced, readers)


def _captured(graph: onnx.GraphProto) -> list[str]:
    names = [name for node in graph.node for name in node.input]
    inner = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return names + [value.name for value in graph.output] + [name for subgraph in inner for name in _captured(subgraph)]


def _is_matrix(constant: Constant | None) -> bool:
    return constant is not None and constant.array.ndim == 2 and _is_float(constant)


def _is_float(constant: Constant) -> bool:
    return constant.array.dtype.kind == "f" or constant.array.dtype.name == "bfloat16"


def _linear(node: Node, plan: Plan, producers: dict[str, Node]) -> Node | None:
    """The linear layer a node is: inputs x, weight, maybe bias; "transposed" if the weight still is (in, out)."""
    if node.domain != "" or node.operator not in ("MatMul", "Gemm"):
        return None
    x, weight, transposed, bias = node.inputs[0], node.inputs[1], True, node.inputs[2:3]
    if node.operator == "Gemm":
        plain = all(node.real(name, 1.0) == 1.0 for name in ("alpha", "beta")) and not node.integer("transA", 0)
        if not plain or (bias and bias[0] and not _is_bias(plan.constants.get(bias[0]), None)):
            return None
        transposed = not node.integer("transB", 0)
    transpose = producers.get(weight)
    if transpose and transpose.operator == "Transpose" and transpose.integers("perm", [1, 0]) == [1, 0]:
        weight, transposed = transpose.inputs[0], not transposed
    if not _is_matrix(plan.constants.get(weight)) or x in plan.constants:
        return None
    inputs = [x, weight, *bias]
    return Node("Linear", "modelkit", node.name, inputs, node.outputs, node.opset, {"transposed": int(transposed)})


def _store_transposed(layers: list[Node], plan: Plan, readers: Counter[int]) -> None:
    by_weight: dict[int, list[Node]] = {}
    for layer in layers:
        if layer.attributes["transposed"]:
            by_weight.setdefault(id(plan.constants[layer.inputs[1]]), []).append(layer)
    for identity, group in by_weight.items():
        if readers[identity] == len(group):  # nobody else reads it
            constant = plan.constants[group[0].inputs[1]]
            constant.array = np.ascontiguousarray(constant.array.T)
            for layer in group:
                layer.attributes["transposed"] = 0


def _is_bias(constant: Constant | None, size: int | None) -> bool:
    return constant is not None and constant.array.ndim == 1 and _is_float(constant) and size in (None, constant.array.size)


def _take_biases(plan: Plan, layers: dict[str, Node], readers: Counter[str]) -> None:
    """Move an Add of a constant vector, the only reader of a layer without bias, into the layer."""
    kept = []
    for node in plan.nodes:
        kept.append(node)
        if node.operator != "Add" or node.domain:
            continue
        for x, bias in (node.inputs, reversed(node.inputs)):
            layer = layers.get(x)
            if layer is None or readers[x] != 1 or len(layer.inputs) != 2:
                continue
            shape = plan.constants[layer.inputs[1]].array.shape
            if _is_bias(plan.constants.get(bias), shape[1] if layer.attributes["transposed"] else shape[0]):
                layer.inputs.append(bias)
                layer.outputs = node.outputs
                kept.pop()
                break
    plan.nodes = kept
