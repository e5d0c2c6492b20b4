"""What the nodes of a program that move data about do with given numbers."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.graph import Graph

from . import constants, session
from .program import Program


def steering_edges(graph: Graph) -> list[str]:
    """The integers that nodes which move data read: shapes, indices, bounds."""
    found = (edge for node in graph.nodes if node.kind in ("reshape", "concat") for edge in node.inputs)
    return list(dict.fromkeys(edge for edge in found if edge in graph.edges and not graph.edges[edge].is_float))


def moved(
    program: Program, node: onnx.NodeProto, given: Mapping[str, Array], steering: Mapping[str, Array]
) -> dict[str, Array] | None:
    """The node's outputs by name. `given` and `steering` are values by name; what is constant is computed. None where an input is
    in neither, or the runtime does not do it with these numbers."""
    inputs: list[Array | None] = []
    for name in node.input:
        if name in given:
            inputs.append(given[name])
        elif name in steering or not name:
            inputs.append(steering.get(name))
        elif name in program.constants:
            inputs.append(constants.evaluate(program, name))
        else:
            return None
    quick = constants.computed(node, inputs) if len(node.output) == 1 else None
    if quick is not None:
        return {node.output[0]: quick}
    feeds = {name: array for name, array in zip(node.input, inputs, strict=True) if array is not None}
    wanted = [name for name in node.output if name]
    try:
        return dict(zip(wanted, session.run_nodes(program, [node], feeds, wanted), strict=True))
    except ModelkitError:
        return None
