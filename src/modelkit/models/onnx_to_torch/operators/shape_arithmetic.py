"""Operators on shapes: computed with (symbolic) ints on the host, so that an open dimension stays open.

Functions take and return numpy arrays; None means "not on the host", and the operator is then translated on tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..node import Node
from ..registry import on_host
from ..values import Host, host, torch_type

_LARGEST = 64  # entries; more than this is no shape


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, (float, torch.SymFloat)) or isinstance(b, (float, torch.SymFloat)):
        return a / b
    if isinstance(a, int) and isinstance(b, int) and (a < 0) != (b < 0):
        return -(abs(a) // abs(b))  # ONNX truncates
    return a // b


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _divide,
    "Mod": lambda a, b: a % b,
    "Pow": lambda a, b: a**b,
    "Min": torch.sym_min,
    "Max": torch.sym_max,
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": lambda a, b: bool(a == b),
    "Less": lambda a, b: bool(a < b),
    "LessOrEqual": lambda a, b: bool(a <= b),
    "Greater": lambda a, b: bool(a > b),
    "GreaterOrEqual": lambda a, b: bool(a >= b),
    "And": lambda a, b: bool(a and b),
    "Or": lambda a, b: bool(a or b),
}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "Neg": lambda a: -a,
    "Abs": abs,
    "Floor": lambda a: torch.sym_float(math.floor(a)),
    "Ceil": lambda a: torch.sym_float(math.ceil(a)),
    "Sqrt": lambda a: torch.sym_sqrt(a) if isinstance(a, torch.SymFloat) else math.sqrt(a),  # type: ignore[attr-defined]
}


def _plain(array: np.ndarray) -> np.ndarray:
    """Entries as Python numbers, which (unlike numpy's) mix with symbolic ones."""
    result = np.empty(array.shape, dtype=object)
    result.reshape(-1)[:] = array.reshape(-1).tolist()
    return result


def _kind(*arrays: np.ndarray) -> torch.dtype:
    values = [entry for array in arrays for entry in array.reshape(-1).tolist()]
    if values and all(isinstance(value, (bool, torch.SymBool)) for value in values):
        return torch.bool
    return torch.float32 if any(isinstance(value, (float, torch.SymFloat)) for value in values) else torch.int64


def _host(array: Any) -> Host:
    array = np.asarray(array, dtype=object)
    return host(array, _kind(array))


@on_host(*_BINARY, *_COMPARE)
def binary(node: Node, *arrays: np.ndarray) -> Host:
    function = _BINARY.get(node.operator) or _COMPARE[node.operator]
    result = _plain(arrays[0])
    for array in arrays[1:]:
        result = np.asarray(np.frompyfunc(function, 2, 1)(result, _plain(array)), dtype=object)
    return _host(result)


@on_host(*_UNARY)
def unary(node: Node, array: np.ndarray) -> Host:
    return _host(np.frompyfunc(_UNARY[node.operator], 1, 1)(_plain(array)))


@on_host("Not")
def logical_not(node: Node, array: np.ndarray) -> Host:
    return _host(np.frompyfunc(lambda a: not a, 1, 1)(_plain(array)))


@on_host("Cast")
def cast(node: Node, array: np.ndarray) -> Host | None:
    dtype = torch_type(node.integer("to", 0))
    if dtype is None:
        return None
    if dtype == torch.bool:
        function: Callable[[Any], Any] = bool
    elif dtype.is_floating_point:
        function = torch.sym_float
    else:
        function = _to_int
    return host(np.frompyfunc(function, 1, 1)(_plain(array)), dtype)


def _to_int(value: Any) -> Any:
    return math.trunc(value) if isinstance(value, torch.SymFloat) else value if isinstance(value, torch.SymInt) else int(value)


@on_host("Identity")
def identity(node: Node, array: np.ndarray) -> Host:
    return _host(_plain(array))


@on_host("Where")
def where(node: Node, condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> Host:
    choose = np.frompyfunc(lambda c, x, y: x if c else y, 3, 1)
    return _host(choose(_plain(condition), _plain(a), _plain(b)))


@on_host("Concat")
def concat(node: Node, *arrays: np.ndarray) -> Host:
    return _host(np.concatenate([_plain(array) for array in arrays], node.integer("axis", 0)))


@on_host("Gather")
def gather(node: Node, array: np.ndarray, indices: np.ndarray) -> Host | None:
    if indices.dtype == object:
        return None
    return _host(np.take(_plain(array), indices.astype(np.int64), axis=node.integer("axis", 0)))


@on_host("Slice")
def slice_(
    node: Node,
    array: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> Host | None:
    if any(bound is not None and bound.dtype == object for bound in (starts, ends, steps)):
        return None
    result = _plain(array)
    for i, axis in enumerate(range(len(starts)) if axes is None else axes.tolist()):
        step = 1 if steps is None else int(steps[i])
        end: int | None = int(ends[i])
        if step < 0 and int(ends[i]) < -result.shape[axis]:
            end = None
        selection = [slice(None)] * result.ndim
        selection[axis] = slice(int(starts[i]), end, step)
        result = result[tuple(selection)]
    return _host(result)


def _axes(node: Node, axes: np.ndarray | None) -> list[int] | None:
    return node.integers("axes") if axes is None else [int(axis) for axis in axes.reshape(-1)]


@on_host("Unsqueeze")
def unsqueeze(node: Node, array: np.ndarray, axes: np.ndarray | None = None) -> Host:
    return _host(np.expand_dims(_plain(array), tuple(_axes(node, axes) or ())))


@on_host("Squeeze")
def squeeze(node: Node, array: np.ndarray, axes: np.ndarray | None = None) -> Host:
    chosen = _axes(node, axes)
    return _host(np.squeeze(_plain(array), None if chosen is None else tuple(chosen)))


@on_host("Reshape")
def reshape(node: Node, array: np.ndarray, target: np.ndarray) -> Host | None:
    if target.dtype == object:
        return None
    sizes = [array.shape[d] if size == 0 else int(size) for d, size in enumerate(target.tolist())]
    return _host(_plain(array).reshape(sizes))


@on_host("Expand")
def expand(node: Node, array: np.ndarray, target: np.ndarray) -> Host | None:
    if target.dtype == object:
        return None
    shape = np.broadcast_shapes(array.shape, tuple(target.tolist()))
    return _host(np.broadcast_to(_plain(array), shape)) if math.prod(shape) <= _LARGEST else None


@on_host("Tile")
def tile(node: Node, array: np.ndarray, repeats: np.ndarray) -> Host | None:
    return None if repeats.dtype == object else _host(np.tile(_plain(array), repeats.tolist()))


@on_host("ConstantOfShape")
def constant_of_shape(node: Node, target: np.ndarray) -> Host | None:
    """Only for what may again be a shape: few integers."""
    value = node.attributes.get("value")
    if value is None or target.dtype == object or math.prod(target.tolist()) > _LARGEST:
        return None
    from onnx import numpy_helper

    fill = numpy_helper.to_array(value).reshape(-1)[0]
    return _host(np.full(target.tolist(), fill.item(), dtype=object)) if fill.dtype == np.int64 else None


@on_host("Split")
def split(node: Node, array: np.ndarray, sizes: np.ndarray | None = None) -> tuple[Host, ...]:
    axis = node.integer("axis", 0)
    parts = node.integers("split") if sizes is None else [int(size) for size in sizes]
    if parts is None:
        count = node.integer("num_outputs", len(node.outputs))
        each = -(-array.shape[axis] // count)
        parts = [each] * (count - 1)
    else:
        parts = parts[:-1]
    return tuple(_host(part) for part in np.split(_plain(array), np.cumsum(parts).tolist(), axis))


@on_host("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def reduce(node: Node, array: np.ndarray, axes: np.ndarray | None = None) -> Host | None:
    chosen = _axes(node, axes)
    if array.ndim != 1 or (chosen is not None and chosen not in ([0], [-1])) or not array.size:
        return None
    function = _BINARY[{"ReduceProd": "Mul", "ReduceSum": "Add", "ReduceMax": "Max", "ReduceMin": "Min"}[node.operator]]
    result, *rest = _plain(array).tolist()
    for entry in rest:
        result = function(result, entry)
    return _host([result] if node.integer("keepdims", 1) else result)


@on_host("ScatterND")
def scatter_nd(node: Node, array: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> Host | None:
    if array.ndim != 1 or indices.dtype == object or node.text("reduction", "none") != "none":
        return None
    result = _plain(array)
    result[indices.reshape(-1).astype(np.int64)] = _plain(updates).reshape(-1)
    return _host(result)
