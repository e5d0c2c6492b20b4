"""Run a program node by node and keep the values that are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch.export.graph_signature import ConstantArgument, InputKind

from ...core.errors import ModelkitError
from ...core.forms import Array
from ...core.model import Feeds
from ...core.names import identifier
from .forms import to_array, to_tensor
from .program import Program


def run(program: Program, feeds: Feeds, wanted: Collection[str]) -> dict[str, Array]:
    """The values of the fx nodes named in `wanted`, for one batch. Raises ModelkitError where the batch does not fit."""
    with torch.no_grad(), _refusing_misfits():
        recorder = _Recorder(program, set(wanted))
        recorder.run(*inputs_of(program, feeds))
    return recorder.found


def segment(program: Program, given: Collection[str], wanted: Collection[str]) -> Callable[[Feeds], dict[str, Array]]:
    """What computes the fx nodes `wanted` from values of the nodes `given`, and of model inputs that get round them."""
    needed, kept = set(wanted), []
    for node in reversed(program.graph.nodes):
        if node.op != "output" and node.name in needed:
            kept.append(node)
            if node.name not in given:
                needed.update(source.name for source in node.all_input_nodes)
    kept.reverse()
    last_reader = {source: node for node in kept if node.name not in given for source in node.all_input_nodes}
    module = fx.GraphModule(program.source.graph_module, program.graph)

    def compute(feeds: Feeds) -> dict[str, Array]:
        interpreter = fx.Interpreter(module)
        found: dict[str, Array] = {}
        feeds = _named(feeds)
        for node in kept:
            if node.name in given:
                value: Any = to_tensor(feeds[node.name])
            elif node.op == "placeholder":
                value = _input(program, node, feeds)
            else:
                value = interpreter.run_node(node)
            interpreter.env[node] = value
            if node.name in wanted:
                found[node.name] = feeds[node.name] if node.name in given else to_array(value)
            for source in node.all_input_nodes:
                if last_reader.get(source) is node:
                    interpreter.env.pop(source, None)
        return found

    def checked(feeds: Feeds) -> dict[str, Array]:
        with torch.no_grad(), _refusing_misfits():
            return compute(feeds)

    return checked


@contextmanager
def _refusing_misfits() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise ModelkitError(
            f"The model does not run on this data: {reason}.", "Check the arrays' shapes and types against its inputs."
        ) from error


def inputs_of(program: Program, feeds: Feeds) -> list[Any]:
    """What the program's placeholders stand for, in order. Raises ModelkitError for an input that the batch lacks."""
    feeds = _named(feeds)
    placeholders = itertools.takewhile(lambda node: node.op == "placeholder", program.graph.nodes)
    return [_input(program, node, feeds) for node in placeholders]


def _named(feeds: Feeds) -> Feeds:
    """By the names that inputs have here, where they have others in the format that the model came from."""
    return {identifier(name): value for name, value in feeds.items()}


def _input(program: Program, node: fx.Node, feeds: Feeds) -> Any:
    spec = program.inputs[node.name]
    if spec.kind is not InputKind.USER_INPUT:
        return program.value(node)
    if isinstance(spec.arg, ConstantArgument):
        return spec.arg.value
    if node.name not in feeds:
        raise ModelkitError(f"The data has no array for the model's input {node.name}.", f"Name one of its arrays {node.name}.")
    return to_tensor(feeds[node.name])


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
