"""Where activations are put on 8-bit grids, so that runtimes can join neighbouring layers into integer kernels.

A runtime computes a convolution in integers only when its input, weight and output are all quantised; a residual sum or a
concatenation only when every side is. A quantise/dequantise pair anywhere else is a cost (and a loss) without a gain. So a
grid is placed on

- the input of every chosen layer,
- the output of every chosen convolution, behind the ReLU that a kernel can absorb,
- sums and concatenations of such outputs, and pools and reshapes that lie between such outputs and such inputs,

and nowhere else: additive masks, norms, softmax and the model's own outputs stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from modelkit.core.graph import Graph, Node

# A value passes these unchanged (or as a maximum of values), so its grid holds behind them too.
_SAME_GRID_POOLS = ("max",)
_SAME_GRID_RESHAPES = ("reshape", "flatten", "transpose", "squeeze", "unsqueeze", "slice", "identity", "depth_to_space", "split")


@dataclass
class Placement:
    """`readers`: the edges to quantise, each with the nodes that read the quantised value (None: everything does).
    `same_grid`: edges that take the grid of another edge. `input_of`: the input edge of each layer computed in integers."""

    readers: dict[str, frozenset[str] | None] = field(default_factory=dict)
    same_grid: dict[str, str] = field(default_factory=dict)
    input_of: dict[str, str] = field(default_factory=dict)


def place_grids(graph: Graph, chosen: Collection[str]) -> Placement:
    """Grids for the layers named in `chosen` (linear and convolution) to compute in integers."""
    placement = Placement()
    wanted = _wanted(graph, set(chosen))
    for node in graph.nodes:
        if node.name in chosen:
            edge = node.inputs[0]
            placement.input_of[node.name] = edge
            if placement.readers.get(edge, frozenset()) is not None:
                readers = placement.readers.get(edge) or frozenset()
                placement.readers[edge] = readers | {node.name}
            if node.kind == "conv" or wanted[node.name]:
                placement.readers[settled(graph, node.outputs[0])] = None
        elif _joins(node) and _all_quantised(graph, node, placement) and (wanted[node.name] or _pays_alone(graph, node)):
            for edge in node.outputs:
                out = settled(graph, edge)
                placement.readers[out] = None
                if _keeps_grid(node) and out == edge:
                    placement.same_grid[out] = node.inputs[0]
    return placement


def settled(graph: Graph, edge: str) -> str:
    """The edge behind the ReLU (or clip from 0) that alone reads `edge`: integer kernels clamp for free."""
    readers = graph.consumers(edge)
    if len(readers) == 1 and edge not in graph.outputs and _clamps_at_zero(readers[0]):
        return readers[0].outputs[0]
    return edge


def _clamps_at_zero(node: Node) -> bool:
    return node.kind == "activation" and (
        node.function == "relu" or (node.function == "clip" and node.attributes.get("low") == 0)
    )


def _wanted(graph: Graph, chosen: set[str]) -> dict[str, bool]:
    """For each node: does a chosen layer read its output, directly or through nodes that can work on grids?"""
    wanted: dict[str, bool] = {}
    for node in reversed(graph.nodes):
        readers = [reader for edge in node.outputs for reader in graph.consumers(settled(graph, edge))]
        wanted[node.name] = any(
            _reads_as_data(reader, node, graph) and (reader.name in chosen or (_joins(reader) and wanted[reader.name]))
            for reader in readers
        )
    return wanted


def _reads_as_data(reader: Node, node: Node, graph: Graph) -> bool:
    return graph.edges[reader.inputs[0]].is_float if reader.inputs else False


def _joins(node: Node) -> bool:
    return (
        (node.kind == "elementwise" and node.function == "add" and not node.parameters)
        or node.kind == "concat"
        or (node.kind == "pool" and node.function in ("max", "average"))
        or _keeps_grid(node)
    )


def _pays_alone(graph: Graph, node: Node) -> bool:
    """Sums and concatenations of quantised values take one conversion behind them instead of several before."""
    return node.kind in ("elementwise", "concat") and settled(graph, node.outputs[0]) not in graph.outputs


def _keeps_grid(node: Node) -> bool:
    return (node.kind == "pool" and node.function in _SAME_GRID_POOLS) or (
        node.kind == "reshape" and node.function in _SAME_GRID_RESHAPES
    )


def _all_quantised(graph: Graph, node: Node, placement: Placement) -> bool:
    data = [edge for edge in node.inputs if edge in graph.edges and graph.edges[edge].is_float]
    return bool(data) and all(placement.readers.get(edge, frozenset()) is None for edge in data)
