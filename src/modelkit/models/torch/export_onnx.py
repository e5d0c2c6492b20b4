"""A program as ONNX, its weights dense and its activation grids as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnxscript.optimizer
import torch
from torch import fx
from torch.ao.quantization.fx._decomposed import quantized_decomposed_lib  # noqa: F401  (registers the operators)
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from ...core.errors import ModelkitError
from ...core.forms import Grid
from ..recurrent_lengths import KEPT_BY_ONNX, symbolic_recurrent_lengths
from .constants import Constants
from .exporting import quiet
from .operators import kind_of
from .program import Program, arguments, nodes_in, rename, set_argument

if TYPE_CHECKING:
    import onnx

_OPSET = 20  # ONNX Runtime 1.32 moves signed grids past a Transpose as nodes that it refuses in models of opset 21


def quantize_dequantize(program: Program, x: fx.Node, grid: Grid) -> fx.Node:
    """x on `grid` as the pair of operators that torch's exporter turns into QuantizeLinear and DequantizeLinear."""
    operators = torch.ops.quantized_decomposed
    kind = torch.int8 if grid.signed else torch.uint8
    dtype = x.meta["val"].dtype
    value = x if dtype is torch.float32 else program.call(torch.ops.aten.to.dtype, x, torch.float32)
    steps = (grid.scale, grid.zero_point, grid.low, grid.high, kind)
    codes = program.call(operators.quantize_per_tensor.default, value, *steps)
    value = program.call(operators.dequantize_per_tensor.default, codes, *steps)
    return value if dtype is torch.float32 else program.call(torch.ops.aten.to.dtype, value, dtype)


def plain_products(program: Program) -> dict[str, str]:
    """Give every linear and convolution a weight of its own name that the exporter keeps. Returns the initializer's by fx node.

    The exporter writes a product of more than two dimensions as MatMul with the weight transposed, and a transposed or computed
    constant under a made-up name: here it gets the constant as it will be read.
    """
    constants = Constants(program)
    names = {}
    for node in list(program.graph.nodes):
        kind = kind_of(node)[0]
        if node.target is torch.ops.aten.conv3d.default and arguments(node)["bias"] is None:
            _as_convolution(node)
        weight = arguments(node).get("weight") if node.op == "call_function" and kind in ("linear", "conv", "embedding") else None
        if not isinstance(weight, fx.Node) or not constants.holds(weight):
            continue
        product = kind == "linear" and node.args[0].meta["val"].dim() != 2  # type: ignore[union-attr]
        name = program.target(weight)
        if name is None or product:
            value = constants.value(weight)
            wanted = next(iter(constants.sources(weight)), f"{node.name}.weight")
            set_argument(node, "weight", None)
            program.prune()  # Frees the name, unless others read the weight too.
            own = program.add_tensor(wanted, (value.t() if product else value).detach().contiguous(), parameter=True)
            name = program.target(own)
            assert name is not None
            if product:
                _as_matmul(program, node, own)
            else:
                set_argument(node, "weight", own)
        names[node.name] = name
    program.prune()
    return names


def _as_convolution(node: fx.Node) -> None:
    """The general operator: of conv3d without a bias, onnxscript 0.7 makes one of a wrong shape."""
    values = arguments(node)
    stride, padding, dilation = (values[name] for name in ("stride", "padding", "dilation"))
    node.args = (values["input"], values["weight"], None, stride, padding, dilation, False, [0, 0, 0], values["groups"])
    node.kwargs, node.target = {}, torch.ops.aten.convolution.default


def _as_matmul(program: Program, node: fx.Node, weight: fx.Node) -> None:
    x, bias = node.args[0], arguments(node).get("bias")
    with program.graph.inserting_before(node):
        product = program.call(torch.ops.aten.matmul.default, x, weight)
        if bias is not None:
            product = program.call(torch.ops.aten.add.Tensor, product, bias)
    name = node.name
    program.replace_uses(node, product)
    program.graph.erase_node(node)
    rename(program, product, name)


def to_proto(program: Program, outputs: list[str], dims: Mapping[str, str]) -> onnx.ModelProto:
    """The ONNX model, its inputs named as the program's and its outputs `outputs`; initializers have the FQNs of the parameters.

    dims: what to call symbolic sizes. Raises ModelkitError where an operator has no counterpart.
    """
    exported = _with_tensor_outputs(program)
    try:
        with quiet(), torch.no_grad(), symbolic_recurrent_lengths(KEPT_BY_ONNX):
            converted: Any = torch.onnx.export(exported, dynamo=True, verbose=False, opset_version=_OPSET, optimize=False)
            # Not the exporter's own choice, which would also fold batch norms into weights that are about to change.
            onnxscript.optimizer.fold_constants(converted.model)
            onnxscript.optimizer.remove_unused_nodes(converted.model)
    except Exception as error:  # The exporter raises whatever an operator makes it stumble over.
        cause = error.__cause__ or error
        reason = str(cause).strip().split("\n")[0][:200].rstrip(".")
        raise ModelkitError(f"The model can't be written as ONNX: {reason}.", "Write a .pt2 instead.") from error
    proto: onnx.ModelProto = converted.model_proto
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        part.ClearField("metadata_props")  # Where each came from in Python: more bytes than the weights of a small model.
        part.ClearField("doc_string")
    inputs = [node.name for node in program.user_inputs() if isinstance(node.meta.get("val"), torch.Tensor)]
    _name_interface(proto, inputs, outputs)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in dims:
                dim.dim_param = dims[dim.dim_param]
    return proto


def _with_tensor_outputs(program: Program) -> ExportedProgram:
    """The program without the constants (None, numbers) that it returns beside its tensors: ONNX has none."""
    output = program.output_node()
    values = list(nodes_in(output.args[0]))
    returned = output.args[0]
    assert isinstance(returned, tuple | list)
    if len(values) == len(returned):
        return program.exported()
    program.outputs = [spec for spec, value in zip(program.outputs, returned, strict=True) if isinstance(value, fx.Node)]
    output.args = (tuple(values),)
    exported = program.exported()
    entry = exported.module_call_graph[0]
    assert entry.signature is not None
    count = sum(spec.kind is OutputKind.USER_OUTPUT for spec in program.outputs)
    entry.signature = replace(entry.signature, out_spec=pytree.tree_structure((0,) * count))
    return exported


def _name_interface(proto: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> None:
    """Call the inputs and outputs so; other values that have such a name get another (the exporter numbers values anew)."""
    given, current = [value.name for value in proto.graph.input], [value.name for value in proto.graph.output]
    renamed = dict(zip(given, inputs, strict=True))
    if len(set(current)) == len(current) and not set(current) & set(given):
        renamed |= zip(current, outputs, strict=True)  # An output that is an input, or another output, keeps its name.
    names, current = list(renamed.values()), list(renamed)
    taken = {name for node in proto.graph.node for name in node.output} | {tensor.name for tensor in proto.graph.initializer}
    for name in (taken & set(names)) - set(current):
        renamed[name] = next(other for i in range(len(taken) + 1) if (other := f"{name}_{i}") not in taken and other not in names)
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer):
        value.name = renamed.get(value.name, value.name)
