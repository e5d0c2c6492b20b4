"""Turn a module into an ExportedProgram that takes any batch size."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputSpec, TensorArgument

from ...core.errors import InputWarning, ModelkitError, UnstatedInputs
from ...core.forms import Array
from .forms import to_tensor, torch_dtype
from .program import Program, rename
from .shapes import Bindings

_BATCH = 2  # An exporter takes a size of 1 for a constant.
_LARGEST_BATCH = 1 << 20


@dataclass(frozen=True)
class Example:
    """Inputs to export with, by the names of the module's own arguments; passed by position unless one in between is left out."""

    tensors: Mapping[str, torch.Tensor]
    by_name: bool = False

    def call(self, batch: int) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Arguments and keyword arguments, each input repeated or cut to `batch` samples."""
        resized = {name: _resized(tensor, batch) for name, tensor in self.tensors.items()}
        return ((), resized) if self.by_name else (tuple(resized.values()), {})

    def dynamic(self, size: Any) -> Any:
        """`size` for the first dimension of every input, as torch.export wants to be told."""
        dims = {name: {0: size} if tensor.dim() else None for name, tensor in self.tensors.items()}
        return dims if self.by_name else tuple(dims.values())


def _resized(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    if not tensor.dim():
        return tensor
    return tensor.repeat(-(-batch // max(tensor.shape[0], 1)), *[1] * (tensor.dim() - 1))[:batch]


def example_inputs(
    arguments: Sequence[str], required: int, bindings: Bindings | None, example: Mapping[str, Array] | None, what: str
) -> Example:
    """Inputs for a module that takes `arguments`, the first `required` of which have no default.

    Names that are the module's own are matched; where none is, they are taken in order. Raises ModelkitError naming --input.
    """
    hint = f"--input {arguments[0] if arguments else 'x'}:float32[1,3,32,32]"
    if bindings:
        tensors = {name: _filled(dtype, dims) for name, (dtype, dims) in bindings.items()}
    elif example:
        tensors = {name: to_tensor(array[:_BATCH]) for name, array in example.items()}
    else:
        raise UnstatedInputs(
            f"{what} does not say what its inputs are.",
            f"Give each as --input NAME:DTYPE[SHAPE], for example {hint}.",
        )
    known = {name: tensors[name] for name in arguments if name in tensors}
    if not known and required <= len(tensors) <= len(arguments):
        known = dict(zip(arguments, tensors.values(), strict=False))
    missing = [name for name in arguments[:required] if name not in known]
    if missing or (bindings and len(known) < len(tensors)):
        raise ModelkitError(
            f"{what} takes the inputs {', '.join(arguments)}, and {', '.join(tensors)} was given.",
            f"Name them with --input, for example {hint}.",
        )
    return Example(known, list(known) != list(arguments[: len(known)]))


def forward_arguments(module: nn.Module) -> tuple[list[str], int]:
    """The names of the inputs that a module's forward takes, and how many of them have no default."""
    parameters = [
        p for p in inspect.signature(module.forward).parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    names = [p.name for p in parameters]
    return names, sum(p.default is p.empty for p in parameters)


def export(module: nn.Module, example: Example, what: str) -> ExportedProgram:
    """The module's program in eval mode, for any batch where it allows that. Raises ModelkitError.

    Warns (InputWarning) where the batch had to be fixed to that of the example.
    """
    module.eval()
    batch = Dim("batch", min=1, max=_LARGEST_BATCH)
    failure: Exception | None = None
    for size in (batch, Dim.AUTO):
        try:
            program = _export(module, example, _BATCH, example.dynamic(size))
        except Exception as error:  # torch.export raises whatever the module and the tracer do.
            failure = error
            continue
        if takes_other_batches(program, example):
            return program
    try:
        program = _export(module, example, 1, None)
    except Exception as error:
        reason = str(failure or error).strip().split("\n")[0][:200].rstrip(".")
        raise ModelkitError(
            f"{what} can't be exported: {reason}.", "Check --input, or export it yourself with torch.export."
        ) from error
    message = f"{what} only works with the batch size it was exported with, 1; write it without fixed sizes to use others."
    warnings.warn(message, InputWarning, stacklevel=2)
    return program


def takes_other_batches(program: ExportedProgram, example: Example) -> bool:
    """Whether the program runs with one more sample than it was exported with."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            args, kwargs = example.call(_BATCH + 1)
            program.module()(*args, **kwargs)
    except Exception:  # The guards of torch.export raise several kinds.
        return False
    return True


def named(program: ExportedProgram, names: Sequence[str]) -> ExportedProgram:
    """The program with its inputs called `names`, in order, where those are free."""
    edited = Program.of(program)
    renamed = {}
    for node, name in zip(edited.user_inputs(), names, strict=False):
        if node.name != name and name.isidentifier() and name not in edited.nodes():
            spec = edited.inputs.pop(node.name)
            renamed[node.name] = name
            rename(edited, node, name)
            node.target = name
            edited.inputs[name] = InputSpec(spec.kind, TensorArgument(name=name), spec.target, spec.persistent)
    result = edited.exported()
    signature = result.module_call_graph[0].signature
    if signature is not None and signature.forward_arg_names:
        # Exporting the program once more (as run_decompositions does) takes the names from here.
        arguments = [renamed.get(name, name) for name in signature.forward_arg_names]
        result.module_call_graph[0].signature = replace(signature, forward_arg_names=arguments)
    return result


def _export(module: nn.Module, example: Example, batch: int, dynamic: Any) -> ExportedProgram:
    args, kwargs = example.call(batch)
    with torch.no_grad(), quiet():
        return torch.export.export(module, args, kwargs, dynamic_shapes=dynamic, strict=False)


def _filled(dtype: str, dims: tuple[int, ...]) -> torch.Tensor:
    """An input of this type with two samples; whole numbers are 0, which is a valid index of any table."""
    kind = torch_dtype(dtype)
    shape = (_BATCH, *dims[1:]) if dims else ()
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(kind) if kind.is_floating_point else torch.zeros(shape, dtype=kind)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters and converters log, print and warn of: pages about what they fall back on and why they fail."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
