"""Recurrent nodes with their weights turned to torch's gate order first, so that constant ones are stored that way."""

from __future__ import annotations

from dataclasses import replace

from .node import Node

_ORDERS = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}  # ONNX has input, output, forget, cell; torch input, forget, cell, output


def with_torch_gates(node: Node) -> list[Node]:
    """The nodes that stand for one node: reorderings of its weights and bias, then itself reading those."""
    order = _ORDERS.get(node.operator)
    if order is None or node.domain != "":
        return [node]
    nodes, inputs = [], list(node.inputs)
    for position, copies in ((1, 1), (2, 1), (3, 2)):
        if position < len(inputs) and inputs[position]:
            name = f"{inputs[position]}_torch_gates"
            attributes = {"order": order, "copies": copies}
            nodes.append(Node("ReorderGates", "modelkit", node.name, [inputs[position]], [name], node.opset, attributes))
            inputs[position] = name
    return [*nodes, replace(node, inputs=inputs)]
