"""TorchScript files as programs: converted, and exported once more for any batch."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from ...core.errors import ModelkitError
from ...core.forms import Array
from .exporting import Example, example_inputs, export, named, quiet
from .operators import base_name
from .shapes import Bindings

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floor_divide": operator.floordiv,
    "floordiv": operator.floordiv,
    "remainder": operator.mod,
    "rsub": lambda left, right: right - left,
    "pow": operator.pow,
    "div": operator.truediv,
}
_TYPED = ("_to_copy", "to")
_SAME = ("clone", "detach", "lift_fresh_copy", "lift_fresh")
_READ = ("_local_scalar_dense", "item")


def open_torchscript(path: Path, bindings: Bindings | None, example: Mapping[str, Array] | None) -> ExportedProgram:
    """Its program. Raises ModelkitError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            script = torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        raise ModelkitError(f"{path} can't be loaded: it is cut short or damaged.", "Download or export it again.") from error
    schema = script.forward.schema.arguments[1:]
    names = [argument.name for argument in schema]
    inputs = example_inputs(names, sum(not argument.has_default_value() for argument in schema), bindings, example, str(path))
    try:
        with torch.no_grad(), quiet():
            converted = _converter()(script, inputs.call(2)[0] or tuple(inputs.call(2)[1].values())).convert()
    except Exception as error:  # The converter raises whatever operator it does not know.
        reason = str(error).strip().split("\n")[0][:200].rstrip(".")
        raise ModelkitError(
            f"{path} can't be converted from TorchScript: {reason}.", "Export the original module with torch.export."
        ) from error
    graph_module = converted.module()
    _restore_parameters(graph_module, {name for name, _ in script.named_parameters()})
    graph_module.eval = lambda: graph_module  # type: ignore[method-assign]  # Exported modules refuse it.
    placeholders = [str(node.target) for node in graph_module.graph.nodes if node.op == "placeholder"]
    exported = export(graph_module, Example(dict(zip(placeholders, inputs.tensors.values(), strict=False))), str(path))
    return named(exported, names)


def _converter() -> type[Any]:
    from torch._export.converter import TS2EPConverter

    class Converter(TS2EPConverter):
        def retrace_as_exported_program(self, gm: fx.GraphModule, *others: Any) -> ExportedProgram:
            _compute_sizes_as_numbers(gm)
            return super().retrace_as_exported_program(gm, *others)

    return Converter


def _restore_parameters(module: nn.Module, names: set[str]) -> None:
    """Make parameters of what the converter turned into buffers, so that the program can be trained further."""
    for name, buffer in list(module.named_buffers()):
        if name in names:
            owner, _, leaf = name.rpartition(".")
            holder = module.get_submodule(owner)
            delattr(holder, leaf)
            holder.register_parameter(leaf, nn.Parameter(buffer, buffer.is_floating_point()))


def _compute_sizes_as_numbers(module: fx.GraphModule) -> None:
    """Tracing writes `x.shape[-1] // 2` as arithmetic of tensors that a number is then read from, scripting as operators that
    take no symbols: an exporter can't know what that is. Compute with the sizes themselves instead."""
    for node in module.graph.nodes:
        if node.op == "call_function" and base_name(node) in _ARITHMETIC and getattr(node.target, "_overloadname", "") == "int":
            node.target = _ARITHMETIC[base_name(node)]
    for node in module.graph.nodes:
        if node.op == "call_function" and base_name(node) in _READ:
            with module.graph.inserting_before(node):
                size = _as_number(module, node.args[0])
            if size is not None:
                _replace(node, size)
    module.graph.eliminate_dead_code()
    module.recompile()


def _as_number(module: fx.GraphModule, value: Any) -> float | fx.Node | None:
    """What a tensor without axes holds, if it is computed from sizes."""
    if isinstance(value, int | float):
        return value
    if not isinstance(value, fx.Node):
        return None
    if value.op == "get_attr":
        tensor = operator.attrgetter(str(value.target))(module)
        return tensor.item() if isinstance(tensor, torch.Tensor) and not tensor.dim() else None
    if value.op != "call_function":
        return None
    name, others = base_name(value), (*value.args[1:], *value.kwargs.values())
    if name == "scalar_tensor":
        size = value.args[0]
        return size if isinstance(size, int | fx.Node) and not isinstance(size, bool) else None
    if name in _SAME:
        return _as_number(module, value.args[0])
    if name in _TYPED:
        number = _as_number(module, value.args[0])
        whole = any(isinstance(kind, torch.dtype) and not kind.is_floating_point for kind in others)
        return _computed(module, torch.sym_int, number) if whole else number
    if name in _ARITHMETIC and all(factor == 1 for factor in others[1:]):  # alpha; how a division is rounded is not known
        return _computed(module, _ARITHMETIC[name], *(_as_number(module, argument) for argument in value.args[:2]))
    return None


def _computed(module: fx.GraphModule, compute: Callable[..., Any], *numbers: float | fx.Node | None) -> float | fx.Node | None:
    if None in numbers:
        return None
    known = not any(isinstance(number, fx.Node) for number in numbers)
    return compute(*numbers) if known else module.graph.call_function(compute, numbers)


def _replace(node: fx.Node, size: float | fx.Node) -> None:
    for user in list(node.users):
        given = (user.args, user.kwargs)
        user.args, user.kwargs = fx.map_arg(given, lambda argument: size if argument is node else argument)
