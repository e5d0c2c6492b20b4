"""Bring exported programs to one shape: products with a constant matrix are aten.linear, convolutions are of their own number of
dimensions, and nothing works in place."""

from __future__ import annotations

import torch
from torch import fx
from torch.export import ExportedProgram

from ..recurrent_lengths import symbolic_recurrent_lengths
from .bags import split_bags
from .constants import Constants
from .inlining import inline_regions
from .program import Program, arguments

aten = torch.ops.aten


def canonical(exported: ExportedProgram) -> Program:
    """The program to work on, equal in what it computes."""
    program = Program.of(exported)
    if not _without_mutation(program):
        with symbolic_recurrent_lengths():
            program = Program.of(exported.run_decompositions({}))
    inline_regions(program)
    split_bags(program)
    _as_linear(program)
    _as_convolutions(program)
    program.prune()
    return program


def _without_mutation(program: Program) -> bool:
    """Turn relu_(x) into relu(x), read by all who read x later. False if some mutated value is also seen through a view."""
    position = {node: i for i, node in enumerate(program.graph.nodes)}
    for node in list(program.graph.nodes):
        mutated = _mutated(node)
        if not mutated:
            continue
        packet = getattr(aten, node.target._schema.name.split("::")[1].removesuffix("_"), None)
        overload = getattr(packet, node.target._overloadname, None)
        target = node.args[0]
        if overload is None or mutated != ["self"] or not isinstance(target, fx.Node) or _is_view(target):
            return False
        if target.op == "placeholder" or any(_is_view(user) for user in target.users if position[user] < position[node]):
            return False
        node.target = overload
        later = {user for user in target.users if position[user] > position[node]}
        program.replace_uses(target, node, later.__contains__)
    return True


def _mutated(node: fx.Node) -> list[str]:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return []
    if node.target._schema.name == "aten::batch_norm":
        return []
    return [a.name for a in node.target._schema.arguments if a.alias_info is not None and a.alias_info.is_write]


def _is_view(node: fx.Node) -> bool:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return not isinstance(node.meta.get("val"), torch.Tensor) or node.op == "call_function"
    reads = [a.alias_info is not None and not a.alias_info.is_write for a in node.target._schema.arguments]
    return any(reads) or node.target._schema.name in (
        "aten::reshape",
        "aten::flatten",
        "aten::contiguous",
        "aten::to",
        "aten::dropout",
    )


def _as_linear(program: Program) -> None:
    """addmm, mm and matmul with a constant two-dimensional right factor become aten.linear over its transpose."""
    constants = Constants(program)
    for node in list(program.graph.nodes):
        if node.op != "call_function" or constants.holds(node):
            continue
        values = arguments(node)
        bias = None
        if node.target is aten.addmm.default and values["alpha"] == 1 and values["beta"] == 1:
            x, weight, bias = values["mat1"], values["mat2"], values["self"]
            if not constants.holds(bias) or bias.meta["val"].dim() != 1:
                continue
        elif node.target is aten.mm.default:
            x, weight = values["self"], values["mat2"]
        elif node.target is aten.matmul.default:
            x, weight = values["self"], values["other"]
        else:
            continue
        if not constants.holds(weight) or weight.meta["val"].dim() != 2 or constants.holds(x) or x.meta["val"].dim() < 2:
            continue
        if bias is not None and bias.meta["val"].shape[0] != weight.meta["val"].shape[1]:
            continue
        with program.graph.inserting_before(node):
            transposed = _transposed(program, weight)
        node.target = aten.linear.default
        node.args, node.kwargs = (x, transposed, *([] if bias is None else [bias])), {}


def _as_convolutions(program: Program) -> None:
    """What traces hold for padding="same" and "valid" becomes conv1d, conv2d or conv3d, which take the same arguments."""
    padded = {1: aten.conv1d.padding, 2: aten.conv2d.padding, 3: aten.conv3d.padding}
    for node in program.graph.nodes:
        if node.target is aten._convolution_mode.default:
            node.target = padded[arguments(node)["weight"].meta["val"].dim() - 2]


def _transposed(program: Program, weight: fx.Node) -> fx.Node:
    """`weight` transposed: what it is itself the transpose of, where it is one."""
    if weight.target is aten.t.default:
        source = weight.args[0]
    elif weight.target in (aten.permute.default, aten.transpose.int) and _swaps(weight):
        source = weight.args[0]
    else:
        return program.call(aten.t.default, weight)
    assert isinstance(source, fx.Node)
    return source


def _swaps(node: fx.Node) -> bool:
    axes = node.args[1] if node.target is aten.permute.default else node.args[1:3]
    assert isinstance(axes, tuple | list)
    return {int(axis) % 2 for axis in axes} == {0, 1} and (node.target is aten.transpose.int or int(axes[0]) % 2 == 1)  # type: ignore[arg-type]
