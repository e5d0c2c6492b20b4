"""Elementwise functions of one input, and casts."""

from __future__ import annotations

import torch

from ..node import Node
from ..registry import translates
from ..values import Host, Levels, Value, to_tensor, torch_type

_FUNCTIONS = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Det": torch.linalg.det,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}


@translates(*_FUNCTIONS)
def unary(node: Node, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _FUNCTIONS[node.operator](x)
    return result


@translates("IsInf")
def is_inf(node: Node, x: torch.Tensor) -> torch.Tensor:
    positive, negative = node.integer("detect_positive", 1), node.integer("detect_negative", 1)
    if positive and negative:
        return torch.isinf(x)
    if positive:
        return torch.isposinf(x)
    return torch.isneginf(x) if negative else torch.zeros_like(x, dtype=torch.bool)


@translates("Cast", raw=True)
def cast(node: Node, x: Value) -> torch.Tensor:
    dtype = torch_type(node.integer("to", 0))
    if dtype is None:
        raise node.refuse("torch has no such type to cast to")
    return _cast(x, dtype)


@translates("CastLike", raw=True)
def cast_like(node: Node, x: Value, like: Value) -> torch.Tensor:
    return _cast(x, like.dtype if isinstance(like, (Host, Levels)) else to_tensor(like).dtype)


def _cast(x: Value, dtype: torch.dtype) -> torch.Tensor:
    if isinstance(x, Levels) and dtype.is_floating_point:
        return x.tensor.to(dtype)
    tensor = to_tensor(x)
    if (
        tensor.dtype.is_floating_point
        and not dtype.is_floating_point
        and dtype in (torch.uint8, torch.int8, torch.int16, torch.uint16)
    ):
        return tensor.to(torch.int64).to(dtype)  # wraps around as ONNX Runtime does, instead of being undefined
    return tensor.to(dtype)


@translates("Identity", raw=True)
def identity(node: Node, x: Value) -> Value:
    return x


@translates("Dropout", raw=True)
def dropout(node: Node, x: Value, ratio: Value = None, training: Value = None) -> Value | tuple[Value, ...]:
    if training is not None and not (isinstance(training, Host) and not training.array.any()):
        raise node.refuse("it is in training mode", "Export the model in evaluation mode.")
    return (x, torch.ones_like(to_tensor(x), dtype=torch.bool)) if node.has_output(1) else x
