"""Collects the nodes and tensors of a program that is being written, and keeps names unique."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import onnx

from modelkit.core.forms import Array

from .program import Program, captured, leading_to, subgraphs
from .tensors import Tensor

MICROSOFT = "com.microsoft"


class Emitter:
    """`replaced`: inputs (node, index) that will be given new constants. What only they read is dropped, its names are free."""

    def __init__(self, program: Program, replaced: Collection[tuple[str, int]] = ()) -> None:
        self.program = program
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, Tensor] = {}
        self.written: dict[tuple[object, ...], str] = {}  # what was lowered already, for weights and grids that are shared
        self._values = {name for node in program.nodes for name in node.output}
        self._values.update(_still_read(program, replaced), program.inputs, program.opaque)
        self._steps = 0
        self._node_names = set(program.node)

    def fresh(self, name: str) -> str:
        """`name`, or that with a number behind it when it is taken."""
        unique, number = name, 1
        while unique in self._values:
            number += 1
            unique = f"{name}_{number}"
        self._values.add(unique)
        return unique

    def tensor(self, name: str, array: Array) -> str:
        """A new constant."""
        unique = self.fresh(name)
        self.tensors[unique] = Tensor.of(array)
        return unique

    def shared(self, name: str, array: Array) -> str:
        """A constant that is written once, however often it is asked for. The name must say what is in it."""
        key = ("shared", name)
        if key not in self.written:
            self.written[key] = self.tensor(name, array)
        return self.written[key]

    def number(self, value: float, dtype: Any = np.float32) -> str:
        """A constant number, written once."""
        key = ("number", value, np.dtype(dtype).name)
        if key not in self.written:
            self.written[key] = self.tensor(f"number_{np.dtype(dtype).name}_{value:g}", np.array(value, dtype))
        return self.written[key]

    def node(self, op: str, inputs: Iterable[str], output: str, domain: str = "", **attributes: Any) -> str:
        """A new node whose only output has exactly this name, which must be fresh or an edge of the program."""
        return self.nodes_with(op, inputs, [output], domain, **attributes)[0]

    def step(self, op: str, inputs: Iterable[str], **attributes: Any) -> str:
        """A new node on the way to a weight. It goes without a name, and its output has a short one: there are many, and in a
        small model names weigh more than codes."""
        self._steps += 1
        value = self.fresh(f"step_{self._steps}")
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [value], **attributes))
        return value

    def nodes_with(self, op: str, inputs: Iterable[str], outputs: list[str], domain: str = "", **attributes: Any) -> list[str]:
        name, number = outputs[0], 1
        while name in self._node_names:
            number += 1
            name = f"{outputs[0]}_{number}"
        self._node_names.add(name)
        self.nodes.append(onnx.helper.make_node(op, list(inputs), outputs, name=name, domain=domain, **attributes))
        return outputs

    def program_written(self) -> Program:
        """The nodes written that lead to the outputs, with the tensors that they read."""
        old = self.program
        kept, needed = leading_to(old.outputs, self.nodes)
        tensors = {name: tensor for name, tensor in {**old.tensors, **self.tensors}.items() if name in needed}
        structure = onnx.ModelProto()
        structure.CopyFrom(old.structure)
        made = {name for node in kept for name in node.output}
        known = [value for value in old.structure.graph.value_info if value.name in made]
        structure.graph.ClearField("value_info")
        structure.graph.value_info.extend(known)
        domains = {entry.domain for entry in structure.opset_import}
        if MICROSOFT not in domains and any(node.domain == MICROSOFT for node in kept):
            structure.opset_import.add(domain=MICROSOFT, version=1)
        return Program(structure, tuple(kept), tensors, old.opaque)


def _still_read(program: Program, replaced: Collection[tuple[str, int]]) -> set[str]:
    """The tensors that the program reads when the replaced inputs no longer count."""
    dropped = set(replaced)
    needed = set(program.outputs)
    for node in reversed(program.nodes):
        if any(name in needed for name in node.output):
            fixed = {name for index, name in enumerate(node.input) if (node.name, index) not in dropped}
            needed |= fixed | {name for graph in subgraphs(node) for name in captured(graph)}
    return needed & set(program.tensors)
