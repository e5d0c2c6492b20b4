"""Activations on grids as plain ATen operators, and finding such operators again.

The order of the arithmetic is that of ONNX QuantizeLinear and DequantizeLinear, so that both families give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from ...core.forms import Grid
from .program import Program

aten = torch.ops.aten
Lowering = Callable[[Program, fx.Node, Grid], fx.Node]


def fake_quantize(program: Program, x: fx.Node, grid: Grid) -> fx.Node:
    """x on `grid`, in x's own type: round(x / scale) + zero point, clamped, and back."""
    value = _to_float32(program, x)
    rounded = program.call(aten.round.default, program.call(aten.div.Tensor, value, grid.scale))
    return _to_type_of(program, dequantised(program, rounded, grid.scale, grid.zero_point, grid.signed), x)


def fake_quantize_dynamic(program: Program, x: fx.Node) -> fx.Node:
    """x on the u8 grid over its own minimum and maximum and 0, as ONNX DynamicQuantizeLinear defines it."""
    value = _to_float32(program, x)
    low = program.call(aten.clamp.default, program.call(aten.amin.default, value), None, 0.0)
    high = program.call(aten.clamp.default, program.call(aten.amax.default, value), 0.0)
    scale = program.call(aten.div.Tensor, program.call(aten.sub.Tensor, high, low), 255.0)
    scale = program.call(aten.masked_fill.Scalar, scale, program.call(aten.eq.Scalar, scale, 0.0), 1.0)
    zero = program.call(aten.div.Tensor, program.call(aten.neg.default, low), scale)
    zero = program.call(aten.round.default, program.call(aten.clamp.default, zero, 0.0, 255.0))
    rounded = program.call(aten.round.default, program.call(aten.div.Tensor, value, scale))
    return _to_type_of(program, dequantised(program, rounded, scale, zero, signed=False), x)


def dequantised(program: Program, rounded: fx.Node, scale: Any, zero: Any, signed: bool) -> fx.Node:
    """(clamp(rounded + zero) − zero) · scale: the value on its grid, in float32."""
    low, high = (-128, 127) if signed else (0, 255)
    codes = program.call(aten.clamp.default, program.call(aten.add.Tensor, rounded, zero), low, high)
    return program.call(aten.mul.Tensor, program.call(aten.sub.Tensor, codes, zero), scale)


def match_grid(node: fx.Node) -> tuple[fx.Node, Grid] | None:
    """(x, grid) if `node` is the last operator of what `fake_quantize` wrote."""
    body = uncast(node)
    scaled = _scalar(body, aten.mul.Tensor)
    shifted = _scalar(scaled[0], aten.sub.Tensor) if scaled else None
    if scaled is None or shifted is None or shifted[0].target is not aten.clamp.default or len(shifted[0].args) != 3:
        return None
    clamped, low, high = shifted[0].args
    added = _scalar(clamped, aten.add.Tensor) if isinstance(clamped, fx.Node) else None
    if added is None or added[0].target is not aten.round.default or added[1] != shifted[1]:
        return None
    divided = _scalar(added[0].args[0], aten.div.Tensor)
    if divided is None or divided[1] != scaled[1] or (low, high) not in ((0, 255), (-128, 127)):
        return None
    x = _source(node, body, divided[0])
    return None if x is None else (x, Grid(float(scaled[1]), int(shifted[1]), bool(low == -128)))


def match_dynamic_grid(node: fx.Node) -> fx.Node | None:
    """x if `node` is the last operator of what `fake_quantize_dynamic` wrote."""
    body = uncast(node)
    path = (aten.mul.Tensor, aten.sub.Tensor, aten.clamp.default, aten.add.Tensor, aten.round.default, aten.div.Tensor)
    step: Any = body
    found = []
    for target in path:
        if not isinstance(step, fx.Node) or step.target is not target:
            return None
        found.append(step)
        step = step.args[0]
    mul, sub, clamp, add, _, div = found
    scale, zero = mul.args[1], sub.args[1]
    if not isinstance(step, fx.Node) or div.args[1] is not scale or add.args[1] is not zero or clamp.args[1:] != (0, 255):
        return None
    if not isinstance(scale, fx.Node) or scale.target is not aten.masked_fill.Scalar or not isinstance(zero, fx.Node):
        return None
    if zero.target is not aten.round.default or not _reads(scale, step):
        return None
    return _source(node, body, step)


def grid_parts(node: fx.Node) -> tuple[fx.Node, Any, Any, bool] | None:
    """(x / scale rounded, scale, zero point, whether the codes are signed) of a value on a grid, static or found at run time:
    scale and zero point are numbers or nodes. None for other values."""
    if match_grid(node) is None and match_dynamic_grid(node) is None:
        return None
    product: Any = uncast(node)
    clamped = product.args[0].args[0]
    rounded, zero = clamped.args[0].args
    return rounded, product.args[1], zero, clamped.args[1] == -128


def _reads(node: fx.Node, source: fx.Node, depth: int = 8) -> bool:
    """Whether `node` is computed from `source` within a few steps."""
    return node is source or (depth > 0 and any(_reads(argument, source, depth - 1) for argument in node.all_input_nodes))


def _scalar(node: Any, target: Any) -> tuple[fx.Node, float] | None:
    """(first argument, number) of an operator between a tensor and a number."""
    if not isinstance(node, fx.Node) or node.target is not target or len(node.args) != 2 or node.kwargs:
        return None
    value, number = node.args
    return (value, number) if isinstance(value, fx.Node) and isinstance(number, int | float) else None


def uncast(node: fx.Node) -> fx.Node:
    """What a cast to a half precision reads; another node itself."""
    if node.op == "call_function" and node.target is aten.to.dtype and node.args[1] in (torch.float16, torch.bfloat16):
        assert isinstance(node.args[0], fx.Node)
        return node.args[0]
    return node


def _source(node: fx.Node, body: fx.Node, x: fx.Node) -> fx.Node | None:
    """The value that was put on a grid: `x`, or what it was cast from where `node` casts the arithmetic `body` back."""
    cast_from = x.args[0] if x.op == "call_function" and x.target is aten.to.dtype and x.args[1] is torch.float32 else None
    narrow = cast_from.meta["val"].dtype if isinstance(cast_from, fx.Node) else None
    if body is not node:
        return cast_from if isinstance(cast_from, fx.Node) and narrow is node.args[1] else None
    inner = narrow in (torch.float16, torch.bfloat16) and all(
        user.target is aten.to.dtype and user.args[1] is narrow for user in node.users
    )
    return None if inner else x


def _to_float32(program: Program, x: fx.Node) -> fx.Node:
    return x if x.meta["val"].dtype is torch.float32 else program.call(aten.to.dtype, x, torch.float32)


def _to_type_of(program: Program, value: fx.Node, x: fx.Node) -> fx.Node:
    dtype = x.meta["val"].dtype
    return value if dtype is torch.float32 else program.call(aten.to.dtype, value, dtype)


def follower(node: fx.Node) -> fx.Node:
    """The node to insert after so that what is inserted may read `node`: itself, or the last placeholder."""
    if node.op != "placeholder":
        return node
    return [other for other in node.graph.nodes if other.op == "placeholder"][-1]
