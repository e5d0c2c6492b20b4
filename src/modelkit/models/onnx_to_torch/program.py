"""ONNX model in, torch.export.ExportedProgram out.

The graph is read into a plan (constants folded, functions inlined), the plan is carried out by an nn.Module, and
torch.export traces that module with every open dimension symbolic.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from torch.export.graph_signature import InputKind

from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.core.names import identifier
from modelkit.models.recurrent_lengths import symbolic_recurrent_lengths

from . import operators  # noqa: F401  (registers the translations)
from .example_inputs import ModelInput, example_tensors, made_up, model_inputs
from .linear_layers import fuse_linear_layers
from .module import OnnxModule
from .plan import Names, Plan, read_plan, refuse_unknown
from .registry import translation_of

_OLDEST_OPSET = 13
_UNBOUNDED = 1 << 31  # larger than any size; torch itself gives infinity or the largest integer


def program_from_onnx(
    proto: onnx.ModelProto, base_dir: Path, example: Mapping[str, np.ndarray] | None = None
) -> torch.export.ExportedProgram:
    """Translate an ONNX model (opset 13 or later, external data relative to `base_dir`) to torch.

    The program takes the ONNX inputs in order (positional arguments named after them) and returns the outputs as a tuple, a
    single one bare. Every dimension the model leaves open stays dynamic where torch.export can keep it so (InputWarning names
    the others, which are fixed at the size of `example`). `example` gives arrays by input name; missing ones are made up.
    Parameters and buffers carry the initializers' names: `program.graph_module.meta["onnx_names"]` maps ONNX initializer to
    parameter name, "onnx_inputs" input name to argument, and "onnx_outputs" lists output names. The weights of MatMul and Gemm
    are stored (out, in), those of recurrent operators (named ..._torch_gates) in torch's order of gates.

    Raises ModelkitError naming the operator that has no counterpart in torch.
    """
    proto = _inlined(proto)
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), _OLDEST_OPSET)
    if opset < _OLDEST_OPSET:
        raise ModelkitError(
            f"The model uses ONNX opset {opset}.", f"Convert it to opset {_OLDEST_OPSET} or later with onnx.version_converter."
        )
    plan = read_plan(proto.graph, opset, base_dir, Names())
    refuse_unknown(plan)
    fuse_linear_layers(plan)
    inputs = model_inputs(proto.graph)
    arguments = _arguments([given.name for given in inputs])
    module = OnnxModule(plan, [given.name for given in inputs], arguments).eval()
    program = _export(module, inputs, example or {})
    _clean(program)
    held = set(program.state_dict) | set(program.constants)
    names = {name: constant.fqn for part in plan.walk() for name, constant in part.constants.items() if constant.fqn in held}
    program.graph_module.meta["onnx_names"] = names
    program.graph_module.meta["onnx_inputs"] = dict(zip((given.name for given in inputs), arguments, strict=True))
    program.graph_module.meta["onnx_outputs"] = list(plan.outputs)
    return program


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without calls to functions: the model's own, and those ONNX defines for operators that have no translation here."""
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    defined = {
        (node.domain, node.op_type)
        for node in proto.graph.node
        if node.domain in ("", "ai.onnx") and translation_of("", node.op_type) is None and onnx.defs.has(node.op_type)
    }
    composed = [key for key in defined if _has_body(key[1])]
    if composed:
        proto = onnx.inliner.inline_selected_functions(proto, composed, inline_schema_functions=True)
    return proto


def _has_body(operator: str) -> bool:
    schema = onnx.defs.get_schema(operator)
    return bool(schema.has_function or schema.has_context_dependent_function)


def _arguments(names: list[str]) -> list[str]:
    """A distinct Python identifier for each ONNX input name."""
    arguments: list[str] = []
    for name in names:
        argument = identifier(name)
        while argument in arguments:
            argument += "_"
        arguments.append(argument)
    return arguments


def _export(module: OnnxModule, inputs: list[ModelInput], example: Mapping[str, np.ndarray]) -> torch.export.ExportedProgram:
    """With all open dimensions dynamic; failing that only each input's first; failing that none."""
    open_dims: list[set[int]] = [given.open_dimensions() for given in inputs]
    attempts: list[list[set[int]]] = [open_dims, [dims & {0} for dims in open_dims], [set() for _ in open_dims]]
    failure: Exception | None = None
    for position, dims in enumerate(attempts):
        if position and dims == attempts[position - 1]:
            continue
        tensors = example_tensors(inputs, example, dims)
        shapes = tuple({d: torch.export.Dim.AUTO for d in sorted(chosen)} for chosen in dims)
        try:
            with torch.no_grad(), symbolic_recurrent_lengths():
                program = torch.export.export(module, tensors, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            if isinstance(error, ModelkitError) and error.__cause__ is None:
                raise  # an operator refused; other sizes would not help
            failure = failure or error
            continue
        _warn_of_fixed(program, inputs, open_dims)
        return program
    what = failure.what if isinstance(failure, ModelkitError) else f"torch.export can't trace the model: {_first_line(failure)}"
    guessed = made_up(inputs, example)
    fix = (
        f"If the model only takes some sizes, name them: --input {guessed[0]}:DTYPE[SHAPE]."
        if guessed
        else "Keep the ONNX format."
    )
    raise ModelkitError(what, fix) from failure


def _first_line(error: Exception | None) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".") + "."


def _warn_of_fixed(program: torch.export.ExportedProgram, inputs: list[ModelInput], open_dims: list[set[int]]) -> None:
    by_name = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    limited = []
    for given, dims, name in zip(inputs, open_dims, program.graph_signature.user_inputs, strict=True):
        for d in sorted(dims):
            size = by_name[str(name)].shape[d]
            most = _most(program, size)
            if _is_fixed(size):
                limited.append(f"{given.name} dimension {d} is fixed at {size}")
            elif most is not None:
                limited.append(f"{given.name} dimension {d} is at most {most}")
    if limited:
        sizes = ", ".join(limited)
        warnings.warn(
            f"torch.export could not keep every size open: {sizes}. Give example inputs of the size needed.", InputWarning, 4
        )


def _is_fixed(size: int | torch.SymInt) -> bool:
    return isinstance(size, int) or size.node.maybe_as_int() is not None


def _most(program: torch.export.ExportedProgram, size: int | torch.SymInt) -> int | None:
    """What a size was found to be at most, where the trace held for no more; None without a bound."""
    allowed = None if isinstance(size, int) else program.range_constraints.get(size.node.expr)
    return None if allowed is None or allowed.upper >= _UNBOUNDED else int(allowed.upper)


def _clean(program: torch.export.ExportedProgram) -> None:
    """Remove parameters and buffers nothing reads (shapes and scalars that went into the graph as numbers), and stack traces."""
    graph, signature = program.graph, program.graph_signature
    for node in list(graph.nodes):
        node.meta.pop("stack_trace", None)  # paths on this machine
        if node.target is torch.ops.aten._assert_tensor_metadata.default:  # what a cast leaves behind for modes of tracing
            graph.erase_node(node)
    graph.eliminate_dead_code()
    kinds = {InputKind.PARAMETER, InputKind.BUFFER}
    unused: dict[str, Any] = {spec.arg.name: spec for spec in signature.input_specs if spec.kind in kinds and spec.target}
    for node in list(graph.nodes):
        spec = unused.get(node.name) if node.op == "placeholder" and not node.users else None
        if spec is not None:
            graph.erase_node(node)
            signature.input_specs.remove(spec)
            program.state_dict.pop(spec.target, None)
    program.graph_module.recompile()


__all__ = ["Plan", "program_from_onnx"]
