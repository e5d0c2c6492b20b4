"""An opened ONNX program: its nodes and, apart from them, its constants.

Nodes are never changed in place, so copies of a model share them; a changed program is a new list of nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx

from .tensors import Tensor


@dataclass(frozen=True)
class Program:
    """`structure` is the model without its main graph's nodes and initializers (but with inputs, outputs, value_info, opset and
    metadata); every node has a unique name. `tensors` are the constants by name."""

    structure: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    tensors: dict[str, Tensor]
    # Constants that are not plain arrays (strings, sparse): left in the structure as they are.
    opaque: frozenset[str] = field(default_factory=frozenset)
    data_files: tuple[Path, ...] = ()  # where external tensors came from

    @property
    def opset(self) -> int:
        return next((entry.version for entry in self.structure.opset_import if entry.domain in ("", "ai.onnx")), 1)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        return tuple(value.name for value in self.structure.graph.input)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        return tuple(value.name for value in self.structure.graph.output)

    @cached_property
    def node(self) -> dict[str, onnx.NodeProto]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def producer(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def readers(self) -> dict[str, tuple[onnx.NodeProto, ...]]:
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(reads(node)):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def constants(self) -> frozenset[str]:
        """The values that don't depend on the model's inputs: tensors, and what is computed from tensors alone."""
        known = set(self.tensors) | self.opaque
        for node in self.nodes:
            if node.op_type in _RANDOM or any(subgraphs(node)):
                continue
            if all(name in known for name in node.input if name):
                known.update(name for name in node.output if name)
        return frozenset(known)

    def only_reader(self, value: str) -> onnx.NodeProto | None:
        """The node that alone reads `value`, if it is no model output."""
        readers = self.readers.get(value, ())
        return readers[0] if len(readers) == 1 and value not in self.outputs else None


_RANDOM = frozenset(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"))


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """The node's attributes as Python values; strings decoded."""
    found: dict[str, object] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        found[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return found


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def reads(node: onnx.NodeProto) -> list[str]:
    """The values that a node reads: its inputs, and what its subgraphs take from outside."""
    return [name for name in node.input if name] + [name for graph in subgraphs(node) for name in captured(graph)]


def captured(graph: onnx.GraphProto) -> list[str]:
    """The names that a subgraph reads but does not define."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {tensor.values.name for tensor in graph.sparse_initializer}
    found = []
    for node in graph.node:
        found += [name for name in reads(node) if name not in own]
        own.update(node.output)
    return found + [value.name for value in graph.output if value.name not in own]


def leading_to(
    outputs: Iterable[str], nodes: Sequence[onnx.NodeProto], known: Collection[str] = ()
) -> tuple[list[onnx.NodeProto], set[str]]:
    """Those of the (sorted) nodes that `outputs` depend on when the values `known` are at hand, and the names of all values that
    are then read."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if any(name in needed and name not in known for name in node.output):
            kept.append(node)
            needed.update(reads(node))
    return kept[::-1], needed


def in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes so that each comes behind those it reads from; the given order where that already holds."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [{producer[name] for name in reads(node) if name in producer} for node in nodes]
    if all(all(earlier < index for earlier in needed) for index, needed in enumerate(waits)):
        return list(nodes)
    done: dict[int, None] = {}
    stack = list(range(len(nodes) - 1, -1, -1))
    entered: set[int] = set()
    while stack:
        index = stack[-1]
        missing = [earlier for earlier in waits[index] if earlier not in done]
        if index in done:
            stack.pop()
        elif not missing:
            done[index] = None
            stack.pop()
        elif index in entered and any(earlier in entered for earlier in missing):
            raise ValueError("the nodes form a cycle")
        else:
            entered.add(index)
            stack += missing
    return [nodes[index] for index in done]
