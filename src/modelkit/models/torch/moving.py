"""What the operators of a program that move data about do with given numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from ...core.forms import Array
from .constants import Constants
from .forms import to_array, to_tensor
from .operators import base_name
from .program import is_getitem, nodes_in
from .shapes import Shapes

# Operators of which only the number type or the layout in memory is new: a number type could not hold the numbers given.
_SAME = (
    "to _to_copy type_as detach alias contiguous clone lift_fresh_copy dropout feature_dropout alpha_dropout native_dropout "
    "identity detach_"
).split()


def steering(node: fx.Node) -> list[str]:
    """The integers (indices) that an operator reads besides what it moves."""
    values = [(item, item.meta.get("val")) for item in nodes_in((node.args, node.kwargs))]
    return [item.name for item, value in values if isinstance(value, torch.Tensor) and not value.dtype.is_floating_point]


def moved(
    node: fx.Node, given: Mapping[fx.Node, Array], constants: Constants, shapes: Shapes, integers: Mapping[str, Array]
) -> dict[str, Array] | None:
    """The operator's outputs by name, for values of the nodes it reads. Sizes are those of one sample; None where a value is not
    known."""

    def value(item: fx.Node) -> Any:
        if item in given:
            return to_tensor(given[item])
        meta = item.meta.get("val")
        if isinstance(meta, torch.SymInt | int):
            return shapes.size(meta)
        if item.name in integers:
            return to_tensor(integers[item.name])
        return constants.value(item) if constants.holds(item) else None

    found = {item: value(item) for item in nodes_in((node.args, node.kwargs))}
    if any(item is None for item in found.values()):
        return None
    if base_name(node) in _SAME:
        first = node.args[0]
        result: Any = found[first] if isinstance(first, fx.Node) else None
        result = (result,) if base_name(node) == "native_dropout" else result
    else:
        try:
            result = node.target(*fx.map_arg(node.args, found.__getitem__), **fx.map_arg(node.kwargs, found.__getitem__))  # type: ignore[operator]
        except (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError):
            return None
    if isinstance(result, torch.Tensor):
        return {node.name: to_array(result)}
    outputs = {user.name: user.args[1] for user in node.users if is_getitem(user)}
    return {name: to_array(result[index]) for name, index in outputs.items() if index < len(result)}  # type: ignore[index, operator]
