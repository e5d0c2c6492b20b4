"""Taking nodes out of a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import onnx

from modelkit.core.forms import Array

from .program import Program, captured, leading_to, subgraphs
from .tensors import Tensor


def without(program: Program, names: Iterable[str]) -> Program:
    """The program in which what read the first output of each of these nodes reads its first input that is no constant.

    Model outputs keep their names; where neither end of a node can be renamed, an Identity takes its place.
    """
    removed = set(names)
    inner = {name for node in program.nodes for graph in subgraphs(node) for name in captured(graph)}
    renamed: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    fixed = {*program.inputs, *program.outputs, *inner}

    def final(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    for node in program.nodes:
        if node.name not in removed:
            nodes.append(node)
            continue
        source, target = final(next(name for name in node.input if name not in program.tensors)), node.output[0]
        if target not in program.outputs and target not in inner:
            renamed[target] = source
        elif source not in fixed and source in program.producer:
            renamed[source] = target
        else:
            nodes.append(onnx.helper.make_node("Identity", [source], [target], name=node.name))
    return replace(program, nodes=tuple(_renamed(node, final) for node in nodes))


def settled(program: Program, members: Iterable[str], value: str, constant: Array) -> Program:
    """The program in which these nodes read a constant instead of `value`; what only led there is gone."""
    name = f"{value}.settled"
    while name in program.tensors or name in program.producer:
        name += "_"
    chosen = set(members)
    nodes = [
        _renamed(node, lambda read: name if read == value else read) if node.name in chosen else node for node in program.nodes
    ]
    kept, needed = leading_to(program.outputs, nodes)
    tensors = {**program.tensors, name: Tensor.of(constant)}
    return Program(
        program.structure, tuple(kept), {key: tensor for key, tensor in tensors.items() if key in needed}, program.opaque,
        program.data_files,
    )  # fmt: skip


def _renamed(node: onnx.NodeProto, final: Callable[[str], str]) -> onnx.NodeProto:
    inputs, outputs = [final(name) for name in node.input], [final(name) for name in node.output]
    if inputs == list(node.input) and outputs == list(node.output):
        return node
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    changed.input[:], changed.output[:] = inputs, outputs
    return changed
