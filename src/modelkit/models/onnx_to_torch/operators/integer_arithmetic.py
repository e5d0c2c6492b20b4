"""Operators on quantised integers (ConvInteger, QLinearMatMul …): products of integers in floating point, then the scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..node import Node
from ..registry import translates
from ..values import Host, Levels, Value, scalar_of, to_tensor
from .convolution import conv
from .pooling import average_pool, global_average_pool
from .quantization import level_range, levels_of, quantize


def _number(value: Value) -> Any:
    """A scale or zero point of a whole tensor, as a number or a tensor of no dimensions."""
    number = scalar_of(value)
    return number if number is not None else levels_of(value).reshape(())


def _centred(value: Value, zero_point: Value, axis: int) -> torch.Tensor:
    """Integers minus their zero point, one or one for each place of `axis`."""
    q = levels_of(value)
    if zero_point is None or scalar_of(zero_point) == 0:
        return q
    if scalar_of(zero_point) is not None:
        return q - scalar_of(zero_point)
    zero = levels_of(zero_point)
    if zero.ndim == 0 or zero.numel() == 1:
        return q - zero.reshape(())
    return q - (zero.reshape([-1 if d == axis % q.ndim else 1 for d in range(q.ndim)]) if zero.ndim == 1 else zero)


@translates("MatMulInteger", raw=True)
def matmul_integer(node: Node, a: Value, b: Value, a_zero: Value = None, b_zero: Value = None) -> Levels:
    return Levels(torch.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1)), torch.int32)


@translates("ConvInteger", raw=True)
def conv_integer(node: Node, x: Value, weight: Value, x_zero: Value = None, weight_zero: Value = None) -> Levels:
    return Levels(conv(node, _centred(x, x_zero, 1), _centred(weight, weight_zero, 0)), torch.int32)


def _type(value: Value) -> torch.dtype:
    return value.dtype if isinstance(value, (Host, Levels)) else to_tensor(value).dtype


def _requantize(total: torch.Tensor, factor: Any, zero: Value) -> Levels:
    low, high = level_range(_type(zero))
    return Levels(torch.clamp(torch.round(total * factor) + _number(zero), low, high), _type(zero))


@translates("QLinearMatMul", raw=True)
def qlinear_matmul(
    node: Node, a: Value, a_scale: Value, a_zero: Value, b: Value, b_scale: Value, b_zero: Value, y_scale: Value, y_zero: Value
) -> Levels:
    total = torch.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1))
    scale_b = _number(b_scale) if to_tensor(b_scale).numel() == 1 else to_tensor(b_scale)
    return _requantize(total, scale_b * _number(a_scale) / _number(y_scale), y_zero)


@translates("QLinearConv", raw=True)
def qlinear_conv(
    node: Node,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    weight: Value,
    weight_scale: Value,
    weight_zero: Value,
    y_scale: Value,
    y_zero: Value,
    bias: Value = None,
) -> Levels:
    total = conv(node, _centred(x, x_zero, 1), _centred(weight, weight_zero, 0), None if bias is None else levels_of(bias))
    per_channel = to_tensor(weight_scale).reshape([-1] + [1] * (total.ndim - 2))
    return _requantize(total, per_channel * (_number(x_scale) / _number(y_scale)), y_zero)


@translates("QGemm", domain="com.microsoft", raw=True)
def qgemm(
    node: Node,
    a: Value,
    a_scale: Value,
    a_zero: Value,
    b: Value,
    b_scale: Value,
    b_zero: Value,
    bias: Value = None,
    y_scale: Value = None,
    y_zero: Value = None,
) -> Levels | torch.Tensor:
    turned = node.integer("transB", 0)
    left, right = _centred(a, a_zero, -2), _centred(b, b_zero, 0 if turned else -1)
    total = torch.matmul(left.t() if node.integer("transA", 0) else left, right.t() if turned else right)
    total = total * node.real("alpha", 1.0)
    total = total if bias is None else total + levels_of(bias)
    factor = to_tensor(b_scale).reshape(-1) * _number(a_scale)
    return total * factor if y_scale is None else _requantize(total, factor / _number(y_scale), y_zero)


@translates("MatMulIntegerToFloat", domain="com.microsoft", raw=True)
def matmul_integer_to_float(
    node: Node, a: Value, b: Value, a_scale: Value, b_scale: Value, a_zero: Value = None, b_zero: Value = None, bias: Value = None
) -> torch.Tensor:
    total = torch.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1)) * (to_tensor(b_scale) * _number(a_scale))
    return total if bias is None else total + to_tensor(bias)


@translates("DynamicQuantizeMatMul", domain="com.microsoft", raw=True)
def dynamic_quantize_matmul(
    node: Node, a: Value, b: Value, b_scale: Value, b_zero: Value = None, bias: Value = None
) -> torch.Tensor:
    from .quantization import dynamic_quantize_linear

    q, scale, zero = dynamic_quantize_linear(node, to_tensor(a))
    return matmul_integer_to_float(node, q, b, scale, b_scale, zero, b_zero, bias)


def _decoded(x: Value, scale: Value, zero: Value) -> torch.Tensor:
    return _centred(x, zero, 1) * _number(scale)


def _encoded(y: torch.Tensor, scale: Value, zero: Value) -> Levels:
    dtype = torch.uint8 if zero is None else _type(zero)
    return quantize(y, _number(scale), 0 if zero is None else _number(zero), *level_range(dtype), dtype)


_BINARY: dict[str, Callable[..., torch.Tensor]] = {"QLinearAdd": torch.add, "QLinearMul": torch.mul}
_UNARY: dict[str, Callable[[Node, torch.Tensor], torch.Tensor]] = {
    "QLinearSigmoid": lambda node, x: torch.sigmoid(x),
    "QLinearLeakyRelu": lambda node, x: torch.nn.functional.leaky_relu(x, node.real("alpha", 0.01)),
    "QLinearAveragePool": average_pool,
    "QLinearGlobalAveragePool": global_average_pool,
}


@translates(*_BINARY, domain="com.microsoft", raw=True)
def qlinear_binary(
    node: Node,
    a: Value,
    a_scale: Value,
    a_zero: Value,
    b: Value,
    b_scale: Value,
    b_zero: Value,
    y_scale: Value,
    y_zero: Value = None,
) -> Levels:
    return _encoded(_BINARY[node.operator](_decoded(a, a_scale, a_zero), _decoded(b, b_scale, b_zero)), y_scale, y_zero)


@translates(*_UNARY, domain="com.microsoft", raw=True)
def qlinear_unary(node: Node, x: Value, x_scale: Value, x_zero: Value, y_scale: Value, y_zero: Value = None) -> Levels:
    if node.integer("channels_last", 0):
        raise node.refuse("channels last")
    return _encoded(_UNARY[node.operator](node, _decoded(x, x_scale, x_zero)), y_scale, y_zero)


@translates("QLinearConcat", domain="com.microsoft", raw=True)
def qlinear_concat(node: Node, y_scale: Value, y_zero: Value, *triples: Value) -> Levels:
    parts = [_decoded(*triples[i : i + 3]) for i in range(0, len(triples), 3)]
    return _encoded(torch.cat(parts, node.integer("axis", 0)), y_scale, y_zero)
