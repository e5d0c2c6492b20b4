"""QuantizeLinear and its inverse as plain arithmetic in floating point, and weights stored in few bits.

A quantised activation stays a float tensor of integer values (`Levels`): round, clamp, scale, and no other operator, so the
program loads in a fresh torch and traces everywhere.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates
from ..values import Host, Levels, Value, packed_bits, scalar_of, to_tensor, torch_type, unpack

_BITS = {torch.int8: 8, torch.uint8: 8, torch.int16: 16, torch.uint16: 16, torch.int32: 32}
_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)
_ONNX_INT4 = {21: (0, 15, torch.uint8), 22: (-8, 7, torch.int8)}  # TensorProto.UINT4, INT4


def levels_of(value: Value) -> torch.Tensor:
    """Integers as an exact floating-point tensor."""
    if isinstance(value, Levels):
        return value.tensor
    tensor = to_tensor(value)
    return tensor if tensor.dtype.is_floating_point else tensor.to(torch.float32)


def level_range(dtype: torch.dtype) -> tuple[int, int]:
    """Smallest and largest integer of a type."""
    limits = torch.iinfo(dtype)
    return int(limits.min), int(limits.max)


def quantize(x: torch.Tensor, scale: Any, zero_point: Any, low: int, high: int, dtype: torch.dtype) -> Levels:
    """clamp(round(x / scale) + zero_point, low, high), rounding halves to even."""
    return Levels(torch.clamp(torch.round(x / scale) + zero_point, low, high), dtype)


def _grid_type(node: Node, zero_point: Value) -> tuple[int, int, torch.dtype]:
    declared = node.integer("output_dtype", 0)
    if declared in _ONNX_INT4:
        return _ONNX_INT4[declared]
    if isinstance(zero_point, Host) and packed_bits(zero_point.array):
        bits, signed = packed_bits(zero_point.array) or 4, zero_point.dtype == torch.int8
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, torch.int8) if signed else (0, 2**bits - 1, torch.uint8)
    dtype = torch_type(declared) or (torch.uint8 if zero_point is None else _dtype(zero_point))
    return (*level_range(dtype), dtype) if dtype not in _FLOAT8 else (0, 0, dtype)


def _dtype(value: Value) -> torch.dtype:
    return value.dtype if isinstance(value, (Host, Levels)) else to_tensor(value).dtype


def _spread(node: Node, parameter: Value, x: torch.Tensor, default_axis: int = 1) -> Any:
    """A scale or zero point as a number, or as a tensor that broadcasts against x (per axis, or per block along it)."""
    number = scalar_of(parameter)
    if number is not None:
        return number
    tensor = levels_of(parameter)
    if tensor.ndim == 0:
        return tensor
    if tensor.numel() == 1:
        return tensor.reshape(())
    axis, block = node.integer("axis", default_axis) % x.ndim, node.integer("block_size", 0)
    if block:
        return tensor.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return tensor.reshape([-1 if d == axis else 1 for d in range(x.ndim)])


@translates("QuantizeLinear", raw=True)
@translates("QuantizeLinear", domain="com.microsoft", raw=True)
def quantize_linear(node: Node, data: Value, scale: Value, zero_point: Value = None) -> Levels | torch.Tensor:
    x = levels_of(data)
    low, high, dtype = _grid_type(node, zero_point)
    step = _spread(node, scale, x)
    if dtype in _FLOAT8:
        largest = torch.finfo(dtype).max
        return torch.clamp(x / step, -largest, largest).to(dtype)
    return quantize(x, step, 0 if zero_point is None else _spread(node, zero_point, x), low, high, dtype)


@translates("DequantizeLinear", raw=True)
@translates("DequantizeLinear", domain="com.microsoft", raw=True)
def dequantize_linear(node: Node, data: Value, scale: Value, zero_point: Value = None) -> torch.Tensor:
    q, dtype = levels_of(data), _dtype(scale)
    if dtype.is_floating_point and q.dtype != dtype:
        q = q.to(dtype)
    zero = 0 if zero_point is None else _spread(node, zero_point, q)
    centred = q if isinstance(data, Host) and _is_zero(zero_point) else q - zero
    return centred * _spread(node, scale, q)


def _is_zero(zero_point: Value) -> bool:
    """Whether a stored weight has no zero point worth subtracting. Activations always show theirs."""
    return zero_point is None or (isinstance(zero_point, Host) and not zero_point.array.astype("float32").any())


@translates("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, x: torch.Tensor) -> tuple[Value, ...]:
    low, high = torch.clamp(x.amin(), max=0.0), torch.clamp(x.amax(), min=0.0)
    scale = (high - low) / 255.0
    scale = scale.masked_fill(scale == 0.0, 1.0)
    zero_point = torch.round(torch.clamp(-low / scale, 0.0, 255.0))
    return quantize(x, scale, zero_point, 0, 255, torch.uint8), scale, Levels(zero_point, torch.uint8)


def _columns_of(packed: torch.Tensor, bits: int) -> torch.Tensor:
    return unpack(packed, bits, signed=False) if bits < 8 else packed


@translates("MatMulNBits", domain="com.microsoft", raw=True)
def matmul_n_bits(
    node: Node, data: Value, weight: Value, scales: Value, zero_points: Value = None, order: Value = None, bias: Value = None
) -> torch.Tensor:
    x, bits = to_tensor(data), node.integer("bits", 4)
    if bits not in (2, 4, 8) or order is not None:
        raise node.refuse(f"{bits}-bit blocks, or blocks in another order")
    n, k = node.integer("N", 0), node.integer("K", 0)
    step = to_tensor(scales).reshape(n, -1, 1)
    blocks = step.shape[1]
    levels = _columns_of(to_tensor(weight), bits).reshape(n, blocks, -1).to(x.dtype)
    if zero_points is None:
        zero: Any = 2 ** (bits - 1)
    elif to_tensor(zero_points).dtype.is_floating_point:
        zero = to_tensor(zero_points).reshape(n, blocks, 1)
    else:
        zero = _columns_of(to_tensor(zero_points).reshape(n, -1), bits)[:, :blocks].unsqueeze(-1).to(x.dtype)
    dense = ((levels - zero) * step.to(x.dtype)).reshape(n, -1)[:, :k]
    return F.linear(x, dense, None if bias is None else to_tensor(bias))
