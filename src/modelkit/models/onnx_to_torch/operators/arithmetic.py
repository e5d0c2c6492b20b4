"""Elementwise operators of several inputs: arithmetic, comparison, logic, selection."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch

from ..node import Node
from ..registry import translates
from ..values import Value, scalar_of, to_tensor

_BINARY: dict[str, Callable[..., torch.Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Equal": torch.eq,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
}
_LOGIC: dict[str, Callable[..., torch.Tensor]] = {
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}
_SWAPPED = {"Add": "Add", "Mul": "Mul", "Equal": "Equal", "Less": "Greater", "LessOrEqual": "GreaterOrEqual"}
_SWAPPED |= {"Greater": "Less", "GreaterOrEqual": "LessOrEqual"}


def _as_number(value: Value, other: torch.Tensor) -> Any:
    """A one-entry constant as a number in the graph, where that does not change the result's rank; else a tensor."""
    number = scalar_of(value)
    if number is not None and value.array.ndim <= other.ndim and other.dtype != torch.bool:  # type: ignore[union-attr]
        return number
    return to_tensor(value)


@translates(*_BINARY, raw=True)
def binary(node: Node, a: Value, b: Value) -> torch.Tensor:
    operator = node.operator
    if scalar_of(a) is not None and scalar_of(b) is None and operator in _SWAPPED:
        a, b, operator = b, a, _SWAPPED[operator]
    left = to_tensor(a)
    return _BINARY[operator](left, _as_number(b, left))


@translates("Div", raw=True)
def div(node: Node, a: Value, b: Value) -> torch.Tensor:
    left = to_tensor(a)
    if left.dtype.is_floating_point:
        return torch.div(left, _as_number(b, left))
    return torch.div(left, _as_number(b, left), rounding_mode="trunc")


@translates("Mod", raw=True)
def mod(node: Node, a: Value, b: Value) -> torch.Tensor:
    left = to_tensor(a)
    right = _as_number(b, left)
    return torch.fmod(left, right) if node.integer("fmod", 0) else torch.remainder(left, right)


@translates("Pow", raw=True)
def pow_(node: Node, a: Value, b: Value) -> torch.Tensor:
    base = to_tensor(a)
    return torch.pow(base, _as_number(b, base)).to(base.dtype)


@translates(*_LOGIC)
def logic(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return _LOGIC[node.operator](a, b)


@translates("BitShift")
def bit_shift(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.bitwise_left_shift(a, b) if node.text("direction", "") == "LEFT" else torch.bitwise_right_shift(a, b)


@translates("Max", "Min")
def extremum(node: Node, *tensors: torch.Tensor) -> torch.Tensor:
    return reduce(torch.maximum if node.operator == "Max" else torch.minimum, tensors)


@translates("Sum", "Mean")
def total(node: Node, *tensors: torch.Tensor) -> torch.Tensor:
    result = reduce(torch.add, tensors)
    return result / len(tensors) if node.operator == "Mean" else result


@translates("Where", raw=True)
def where(node: Node, condition: Value, a: Value, b: Value) -> torch.Tensor:
    chosen = to_tensor(condition)
    if scalar_of(a) is not None and isinstance(b, torch.Tensor) and a.array.ndim <= max(chosen.ndim, b.ndim):  # type: ignore[union-attr]
        return torch.where(chosen, scalar_of(a), b)
    left = to_tensor(a)
    if scalar_of(b) is not None and b.array.ndim <= max(chosen.ndim, left.ndim):  # type: ignore[union-attr]
        return torch.where(chosen, left, scalar_of(b))
    return torch.where(chosen, left, to_tensor(b))
