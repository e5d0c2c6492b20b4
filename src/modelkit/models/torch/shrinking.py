"""A program with shorter axes: its tensors are sliced, operators state the new sizes, and every shape is found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import fx

from ...core.channels import Cut, Positions
from ...core.errors import ModelkitError
from ...core.graph import Graph
from .constants import Constants, turning
from .exporting import quiet
from .graph import View
from .operators import base_name, kind_of
from .program import Program, is_getitem, nodes_in
from .resizing import Resizer
from .shapes import Shapes

Axes = Mapping[int, Positions]
_COUNTS = {"groups": ("groups", "num_groups", "group"), "heads": (), "kv_heads": (), "hidden": ()}


def shrink(program: Program, view: View, shapes: Shapes, cut: Cut) -> None:
    """Change `program`, whose view is `view`. Raises ModelkitError where a size can't be restated."""
    before = {node: _Before(node.args, node.kwargs, node.meta.get("val")) for node in program.graph.nodes}
    constants = Constants(program)
    slices = Slices(program, constants)
    for (name, role), axes in cut.parameters.items():
        slices.ask(view.operators[name], view.sources[name, role], axes)
    for node in view.graph.nodes:
        _slice_masks(view, node.name, view.graph, cut, constants, slices)
    slices.make()
    resizer = Resizer(program, view, shapes, cut)
    for name, counts in cut.attributes.items():
        for attribute, count in counts.items():
            resizer.state(view.operators[name], _COUNTS[attribute], count)
    for operator in view.operators.values():
        resizer.restate(operator)
    program.prune()
    hidden = {
        view.operators[name].name: (view.graph.by_name[name].parameters["weight_hh_l0"].shape[-1], counts["hidden"])
        for name, counts in cut.attributes.items()
        if "hidden" in counts
    }
    _find_shapes(program, hidden, before)


def _slice_masks(view: View, name: str, graph: Graph, cut: Cut, constants: Constants, slices: Slices) -> None:
    """Constants that are no parameters but as long as an edge that gets shorter."""
    node, operator = graph.by_name[name], view.operators[name]
    axes, shape = cut.edges.get(operator.name, {}), graph.shape(operator.name)
    if node.kind not in ("elementwise", "activation") or not axes or shape is None:
        return
    known = {view.sources[name, role] for role in node.parameters}
    for item in set(nodes_in((operator.args, operator.kwargs))) - known:
        if constants.holds(item) and isinstance(item.meta.get("val"), torch.Tensor):
            shift = len(shape) - item.meta["val"].dim()
            own = item.meta["val"].shape
            found = {axis - shift: kept for axis, kept in axes.items() if axis >= shift and own[axis - shift] == shape[axis] > 1}
            slices.ask(operator, item, found)


class Slices:
    """Constants to be sliced, by the operators that read them. Tied ones stay tied where all readers ask for the same."""

    def __init__(self, program: Program, constants: Constants) -> None:
        self._program, self._constants = program, constants
        self._asked: dict[fx.Node, dict[fx.Node, Axes]] = {}

    def ask(self, reader: fx.Node, value: fx.Node, axes: Axes) -> None:
        if axes:
            self._asked.setdefault(value, {})[reader] = axes

    def make(self) -> None:
        order = {node: index for index, node in enumerate(self._program.graph.nodes)}
        while self._asked:
            # Values nearest to the outputs first: asking for what turns a tensor round is asking for that tensor.
            value = max(self._asked, key=order.__getitem__)
            asked = self._asked.pop(value)
            wishes = {_key(axes): axes for axes in asked.values()}
            agreed = len(wishes) == 1 and set(value.users) == set(asked)
            turned = turning(value) if agreed and value.op == "call_function" else None
            if turned is not None:
                self.ask(
                    value, value.all_input_nodes[0], {turned[axis]: kept for axis, kept in next(iter(wishes.values())).items()}
                )
                continue
            for key, axes in wishes.items():
                readers = [reader for reader, wish in asked.items() if _key(wish) == key]
                self._slice(value, axes, readers, agreed)

    def _slice(self, value: fx.Node, axes: Axes, readers: list[fx.Node], agreed: bool) -> None:
        program = self._program
        tensor = self._constants.value(value)
        for axis, kept in axes.items():
            tensor = tensor.index_select(axis, torch.from_numpy(kept))
        target = program.target(value)
        if agreed and target is not None:
            program.tensors[target] = _like(program.tensors[target], tensor)
            with program.computing_shapes():
                value.meta["val"] = torch.empty(tuple(tensor.shape), dtype=tensor.dtype)
            return
        sources = self._constants.sources(value)
        old = program.tensors.get(sources[0]) if sources else None
        new = program.add_tensor(
            sources[0] if sources else value.name, tensor.detach().clone(), parameter=isinstance(old, torch.nn.Parameter)
        )
        for reader in readers:
            reader.replace_input_with(value, new)


def _key(axes: Axes) -> object:
    return tuple(sorted((axis, kept.tobytes()) for axis, kept in axes.items()))


def _like(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    new = new.detach().clone()
    return torch.nn.Parameter(new, old.requires_grad) if isinstance(old, torch.nn.Parameter) else new


def _with_units(program: Program, value: torch.Tensor, change: tuple[int, int] | None) -> torch.Tensor:
    """A recurrent operator's output with other hidden units, which lie (once for each direction) along the last axis."""
    if change is None:
        return value
    old, new = change
    with program.computing_shapes():
        return value.new_empty((*value.shape[:-1], value.shape[-1] // old * new))


class _Before(NamedTuple):
    """What a node read and gave."""

    args: Any
    kwargs: Any
    value: Any


def _find_shapes(program: Program, hidden: Mapping[str, tuple[int, int]], before: Mapping[fx.Node, _Before]) -> None:
    """Compute shapes again, symbolic ones too, of all nodes that read something else than `before`. `hidden`: by recurrent
    operator, its units before and now. Raises ModelkitError where an operator does not fit its inputs."""
    changed: set[fx.Node] = set()
    for node in program.graph.nodes:
        old = before.get(node)
        if old is None or old.value is not node.meta.get("val"):
            changed.add(node)
        if node.op != "call_function" or kind_of(node)[0] == "control":
            continue
        items = list(nodes_in((node.args, node.kwargs)))
        if any("val" not in item.meta for item in items):
            continue
        if old is not None and (old.args, old.kwargs) == (node.args, node.kwargs) and changed.isdisjoint(items):
            continue
        value = _value(program, node, hidden)
        if node.meta.get("val") is not None or is_getitem(node):
            if old is None or _layout(value) != _layout(old.value):
                changed.add(node)
            node.meta["val"] = value


def _value(program: Program, node: fx.Node, hidden: Mapping[str, tuple[int, int]]) -> Any:
    """What a node gives, without data."""
    try:
        if kind_of(node)[0] == "recurrent":  # torch has no shape rule for it
            return tuple(_with_units(program, value, hidden.get(node.name)) for value in node.meta["val"])
        with torch.no_grad(), quiet(), program.computing_shapes():
            return node.target(  # type: ignore[operator]
                *fx.map_arg(node.args, lambda item: item.meta["val"]),
                **fx.map_arg(node.kwargs, lambda item: item.meta["val"]),
            )
    except Exception as error:  # whatever an operator's shape rule raises
        reason = str(error).split("\n")[0][:200].rstrip(".")
        raise ModelkitError(
            f"After pruning {base_name(node)} {node.name} does not fit its inputs: {reason}.",
            "Leave the layers around it out with --ignore, and report this with the model.",
        ) from error


def _layout(value: Any) -> Any:
    """Sizes, strides and types as text: comparing symbolic sizes themselves would fix them."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), [str(size) for size in value.shape], [str(step) for step in value.stride()]
    return [_layout(item) for item in value] if isinstance(value, tuple | list) else str(value)
