"""Run a program node by node and keep the values that are asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import fx
from torch.export.graph_signature import ConstantArgument, InputKind

from ...core.errors import ModelkitError
from ...core.forms import Array
from ...core.model import Feeds
from .forms import to_array, to_tensor
from .program import Program


def run(program: Program, feeds: Feeds, wanted: Collection[str]) -> dict[str, Array]:
    """The values of the fx nodes named in `wanted`, for one batch. Raises ModelkitError where the batch does not fit."""
    with torch.no_grad():
        recorder = _Recorder(program, set(wanted))
        try:
            recorder.run(*inputs_of(program, feeds))
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
            reason = str(error).split("\n")[0].rstrip(".")
            raise ModelkitError(
                f"The model does not run on this data: {reason}.", "Check the arrays' shapes and types against its inputs."
            ) from error
    return recorder.found


def inputs_of(program: Program, feeds: Feeds) -> list[Any]:
    """What the program's placeholders stand for, in order. Raises ModelkitError for an input that the batch lacks."""
    values: list[Any] = []
    for node in program.graph.nodes:
        if node.op != "placeholder":
            break
        spec = program.inputs[node.name]
        if spec.kind is not InputKind.USER_INPUT:
            values.append(program.value(node))
        elif isinstance(spec.arg, ConstantArgument):
            values.append(spec.arg.value)
        elif node.name in feeds:
            values.append(to_tensor(feeds[node.name]))
        else:
            raise ModelkitError(
                f"The data has no array for the model's input {node.name}.", f"Name one of its arrays {node.name}."
            )
    return values


class _Recorder(fx.Interpreter):
    def __init__(self, program: Program, wanted: set[str]) -> None:
        super().__init__(fx.GraphModule(program.source.graph_module, program.graph))
        self.wanted = wanted
        self.found: dict[str, Array] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.wanted and isinstance(value, torch.Tensor):
            self.found[n.name] = to_array(value)
        return value
