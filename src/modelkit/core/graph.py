"""The neutral graph: one small read-only view of a model, whatever its file format.

Everything that asks about structure (MACs, where activations are quantised, what can be folded) is written once over this
view. An adapter in `models/` builds it and knows how its nodes map back to the file's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal

Kind = Literal[
    "linear",  # y = x Wᵀ + b with a constant W; weight (out, in)
    "conv",  # weight (out, in/groups, *kernel), or (in, out/groups, *kernel) when attributes["transposed"]
    "embedding",  # rows of a constant table looked up by index; weight (rows, dim)
    "recurrent",  # LSTM, GRU, RNN as one operator
    "matmul",  # product of two activations
    "attention",  # softmax(q kᵀ) v as one operator; inputs[:3] are q, k, v of shape (..., heads, length, dim)
    "norm",  # batch, layer, group, instance, RMS: attributes["function"]
    "activation",  # one input, element by element: attributes["function"], e.g. "relu", "gelu", "sigmoid", "clip"
    "elementwise",  # several inputs: attributes["function"], e.g. "add", "mul", "sub", "div", "where"
    "softmax",
    "pool",  # attributes["function"] = "max" or "average"; global pools are "average" over all of space
    "reduce",  # attributes["function"], e.g. "mean", "sum"
    "concat",
    "reshape",  # moves or selects values without computing: reshape, transpose, slice, expand, gather, split, identity
    "control",  # If, Loop, Scan: layers inside are not seen
    "other",
]
LAYER_KINDS: tuple[Kind, ...] = ("linear", "conv", "embedding", "recurrent")
PRODUCT_KINDS: tuple[Kind, ...] = (*LAYER_KINDS, "matmul", "attention")  # whose multiply-accumulates are counted
HIDDEN = "layers inside control flow are not seen"  # why a node of kind "control" that holds products is skipped

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Edge:
    """One value that flows between nodes.

    `shape` is concrete, for one sample: a dynamic batch counts as 1, other dynamic sizes as bound when the model was opened;
    None where it could not be found. `dtype` is numpy's name ("float32", "int64", "bool"; "bfloat16" as ml_dtypes names it).
    """

    name: str
    shape: Shape | None
    dtype: str

    @property
    def is_float(self) -> bool:
        return "float" in self.dtype


@dataclass(frozen=True)
class Parameter:
    """A constant that a node owns, as it is stored: `shape` is the neutral (decoded) one, `bytes` are those in the file.

    `form` says how it is stored: "dense", or for example "int8 per-channel", "int4 g32". `stored` lists the names of the
    tensors in the file that make it up; tied weights share them. `axes`: for each axis of `shape` the one of the only stored
    tensor that it is; None where the tensor is computed in another way.
    """

    name: str
    shape: Shape
    dtype: str
    bytes: int
    form: str = "dense"
    stored: tuple[str, ...] = ()
    axes: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operator. `inputs` are the names of the edges it reads as data (not its parameters), in the operator's order.

    `name` is unique and is the layer name users see. `op` is the format's own name for it. Parameters are by role:
    "weight" and "bias" for linear, conv and embedding; norms add "mean" and "variance". `skip` is a reason why a layer
    can't be changed (its weight is computed at run time, say).
    Attributes by kind: conv: "groups", "stride", "dilation", "padding" (before and after each axis), "transposed"; norm:
    "epsilon", "axis", and "groups" of a group norm; an activation of the function "clip": "low" and "high", where it has
    them as constants; softmax, concat and ONNX's Gather: "axis"; reduce: "axes"; a reshape of the function
    "pad": "pads", (before, after) for each axis; attention whose inputs hold all heads side by side: "heads", "kv_heads"; an
    einsum: "equation".
    """

    name: str
    kind: Kind
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    skip: str | None = None

    @property
    def is_layer(self) -> bool:
        return self.kind in LAYER_KINDS

    @property
    def function(self) -> str:
        return str(self.attributes.get("function", ""))


@dataclass(frozen=True)
class Input:
    """A model input as users give it. `dims` has a number where the file fixes the size and a symbol's name where not."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}:{self.dtype}[{','.join(map(str, self.dims))}]"


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, edges by name, the model's inputs and outputs (edge names)."""

    nodes: tuple[Node, ...]
    edges: Mapping[str, Edge]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]

    @cached_property
    def by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def position(self) -> dict[str, int]:
        """The place of each node in the order, by name."""
        return {node.name: place for place, node in enumerate(self.nodes)}

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {edge: node for node in self.nodes for edge in node.outputs}

    @cached_property
    def _consumers(self) -> dict[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for edge in dict.fromkeys(node.inputs):
                found.setdefault(edge, []).append(node)
        return {edge: tuple(nodes) for edge, nodes in found.items()}

    @cached_property
    def _owners(self) -> Counter[str]:
        return Counter(name for node in self.nodes for p in node.parameters.values() for name in p.stored)

    def is_shared(self, parameter: Parameter) -> bool:
        """Whether other nodes (or roles) read the same stored tensor."""
        return any(self._owners[name] > 1 for name in parameter.stored)

    def producer(self, edge: str) -> Node | None:
        """The node that computes `edge`; None for a model input."""
        return self._producers.get(edge)

    def consumers(self, edge: str) -> tuple[Node, ...]:
        return self._consumers.get(edge, ())

    def shape(self, edge: str) -> Shape | None:
        found = self.edges.get(edge)
        return found.shape if found else None

    def layers(self) -> Iterator[Node]:
        """The nodes that own weights worth compressing, in topological order."""
        return (node for node in self.nodes if node.is_layer)
