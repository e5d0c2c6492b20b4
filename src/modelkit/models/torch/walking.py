"""Run a program once, operator by operator, on all batches at each, with weights that may change on the way."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from ...core.errors import ModelkitError
from ...core.forms import Array
from ...core.model import Feeds
from .constants import Constants
from .forms import to_array
from .program import Program, nodes_in
from .running import inputs_of

Changed = Callable[[str], Mapping[str, torch.Tensor]]


def walk(program: Program, batches: Sequence[Feeds], stops: Sequence[str], changed: Changed) -> Iterator[tuple[str, list[Array]]]:
    """Stop behind each of the fx nodes named in `stops`, with its value for each batch.

    `changed(name)`: the arguments of that fx node that are others by now than the program says."""
    needed = _ancestors(program, stops)
    last = {argument: node for node in program.graph.nodes if node in needed for argument in node.all_input_nodes}
    constants = Constants(program)
    shared: dict[fx.Node, Any] = {}  # what no input decides is computed once for all batches
    values: list[dict[fx.Node, Any]] = [{} for _ in batches]
    given = [inputs_of(program, batch) for batch in batches]
    for place, node in enumerate(program.graph.nodes):
        if node not in needed:
            continue
        other = changed(node.name)
        for own, inputs in zip([shared] if constants.holds(node) else values, given, strict=False):
            own[node] = inputs[place] if node.op == "placeholder" else _compute(program, node, ChainMap(own, shared), other)
        for argument in node.all_input_nodes:
            if last[argument] is node:
                for own in (shared, *values):
                    own.pop(argument, None)
        if node.name in stops:
            yield node.name, [to_array(shared[node] if constants.holds(node) else own[node]) for own in values]
        if node not in last:
            for own in values:
                own.pop(node, None)


def _compute(program: Program, node: fx.Node, known: Mapping[fx.Node, Any], changed: Mapping[str, torch.Tensor]) -> Any:
    if node.op == "get_attr":
        return program.value(node)
    args = fx.map_arg(node.args, known.__getitem__)
    kwargs = fx.map_arg(node.kwargs, known.__getitem__)
    for argument, tensor in changed.items():
        args, kwargs = _with(node, args, kwargs, argument, tensor)
    try:
        with torch.no_grad():
            return node.target(*args, **kwargs)  # type: ignore[operator]
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise ModelkitError(
            f"The model does not run on this data: {reason}.", "Check the arrays' shapes and types against its inputs."
        ) from error


def _with(node: fx.Node, args: Any, kwargs: Any, name: str, value: torch.Tensor) -> tuple[Any, Any]:
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    at = names.index(name)
    if at < len(args):
        return (*args[:at], value, *args[at + 1 :]), kwargs
    return args, {**kwargs, name: value}


def _ancestors(program: Program, stops: Sequence[str]) -> set[fx.Node]:
    """The nodes that the values at `stops` are computed from, those themselves too."""
    needed = {node for node in program.graph.nodes if node.name in stops}
    for node in reversed(program.graph.nodes):
        if node in needed:
            needed.update(nodes_in((node.args, node.kwargs)))
    return needed
