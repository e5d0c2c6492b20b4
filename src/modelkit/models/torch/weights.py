"""Weights as plain ATen operators: integer buffers, and the arithmetic that decodes them where the layer reads its weight.

Nothing but ATen is used, so that `torch.export.load` alone can run the file (programs with quantized_decomposed operators load
only where those happen to be registered).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from ...core.forms import Quantized
from .forms import to_array, to_tensor, torch_dtype
from .packing import block, pack, unpack
from .program import Program

aten = torch.ops.aten


@dataclass(frozen=True)
class Buffers:
    """The placeholders of one quantised weight; `zero` is None where it is 0, a number where one offset holds for all."""

    form: Quantized
    codes: fx.Node
    scale: fx.Node
    zero: fx.Node | int | None

    def record(self, program: Program) -> dict[str, Any]:
        """What a file must say for `read` to find and understand the buffers again."""
        form = self.form
        zero = program.target(self.zero) if isinstance(self.zero, fx.Node) else None
        return {
            "codes": program.target(self.codes), "scale": program.target(self.scale), "zero_point": zero,
            "bits": form.bits, "signed": form.signed, "group_size": form.group_size, "axis": form.axis,
            "shape": list(form.shape), "dtype": form.dtype,
        }  # fmt: skip


def store(program: Program, form: Quantized, target: str) -> Buffers:
    """Add the buffers of `form` to the program as `target`_codes, _scale and _zero_point."""
    shape, axis = form.shape, form.axis
    rows = (shape[axis], prod(shape) // max(shape[axis], 1)) if shape else (1, 1)
    codes, zero = form.codes, form.zero_point
    if in_rows(form):
        codes = form.rows()
        if form.group_size:
            codes = np.pad(codes, ((0, 0), (0, form.scale.shape[1] * form.group_size - rows[1])))
    offset: int | None = None
    if form.bits < 8:
        offset = 2 ** (form.bits - 1) if form.signed else 0
        codes = pack(codes.astype(np.int16) + offset, form.bits)
        zero = None if zero is None else (zero.astype(np.int16) + offset).astype(np.uint8)
    grid = _grid_shape(form)
    code_node = program.add_tensor(f"{target}_codes", to_tensor(codes))
    scale_node = program.add_tensor(f"{target}_scale", to_tensor(form.scale.astype(np.float32).reshape(grid)))
    zero_node = None if zero is None else program.add_tensor(f"{target}_zero_point", to_tensor(zero.reshape(grid)))
    return Buffers(form, code_node, scale_node, zero_node if zero_node is not None else offset or None)


def decode(program: Program, buffers: Buffers) -> fx.Node:
    """Compute the whole weight, where the graph inserts now."""
    form = buffers.form
    if not in_rows(form):
        return scaled(program, buffers.codes, buffers.scale, form.dtype, buffers.zero)
    rows = _decode_rows(program, buffers, buffers.codes, buffers.scale, buffers.zero)
    shape, axis = form.shape, form.axis
    moved = [shape[axis], *(n for i, n in enumerate(shape) if i != axis)]
    weight = program.call(aten.view.default, rows, moved)
    if axis:
        order = list(range(1, len(shape)))
        order.insert(axis, 0)
        weight = program.call(aten.permute.default, weight, order)
    return _cast(program, weight, form.dtype)


def scaled(program: Program, codes: fx.Node, scale: fx.Node, dtype: str, zero: fx.Node | int | None = None) -> fx.Node:
    """(codes − zero) · scale, computed in float32, where the graph inserts now."""
    return _cast(program, _dequantise(program, codes, scale, zero, grouped=False), dtype)


def decode_rows(program: Program, buffers: Buffers, indices: fx.Node) -> tuple[fx.Node, fx.Node]:
    """Gather the packed rows at `indices` and decode only those: an embedding (..., dim), and the node that gathers.

    The weight's axis must be 0.
    """
    codes = program.call(aten.embedding.default, buffers.codes, indices)
    scale, zero = buffers.scale, buffers.zero
    if scale.meta["val"].dim():
        scale = program.call(aten.embedding.default, scale, indices)
        zero = program.call(aten.embedding.default, zero, indices) if isinstance(zero, fx.Node) else zero
    return _cast(program, _decode_rows(program, buffers, codes, scale, zero), buffers.form.dtype), codes


def read(record: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Quantized:
    """The form that `Buffers.record` described.

    Raises KeyError, TypeError, ValueError or AssertionError for a record that does not fit.
    """
    bits, axis, group_size = int(record["bits"]), int(record["axis"]), record["group_size"]
    shape = tuple(int(n) for n in record["shape"])
    signed, dtype = bool(record["signed"]), str(record["dtype"])
    assert 1 <= bits <= 32 and dtype in ("float32", "float16", "bfloat16", "float64") and 0 <= axis < max(len(shape), 1)
    codes, scale = to_array(tensors[record["codes"]]), to_array(tensors[record["scale"]])
    zero = None if record["zero_point"] is None else to_array(tensors[record["zero_point"]])
    channels = shape[axis] if shape else 1
    columns = prod(shape) // max(channels, 1)
    groups = -(-columns // int(group_size)) if group_size else 1
    offset = 2 ** (bits - 1) if signed else 0
    if bits < 8:
        codes = unpack(codes, bits, groups * int(group_size) if group_size else columns).astype(np.int16) - offset
        codes = codes.astype(np.int8 if signed else np.uint8)
        zero = None if zero is None else (zero.astype(np.int16) - offset).astype(codes.dtype)
    if codes.shape != shape:
        moved = (channels, *(n for i, n in enumerate(shape) if i != axis))
        codes = np.moveaxis(codes[:, :columns].reshape(moved), 0, axis)
    grid = (1, 1) if scale.size == 1 else (channels, groups)
    form = Quantized(
        np.ascontiguousarray(codes), scale.reshape(grid), bits, None if zero is None else zero.reshape(grid),
        int(group_size) if group_size else None, axis, dtype,
    )  # fmt: skip
    assert form.shape == shape and form.scale.dtype == np.float32
    return form


def in_rows(form: Quantized) -> bool:
    """Whether the codes are kept as (channels, everything else) rather than in the weight's shape."""
    return form.bits < 8 or form.group_size is not None


def _grid_shape(form: Quantized) -> tuple[int, ...]:
    """The shape that scales and zero points are kept in: one that broadcasts against the codes as kept."""
    if form.per_tensor:
        return ()
    if in_rows(form):
        return form.scale.shape
    return tuple(n if i == form.axis else 1 for i, n in enumerate(form.shape))


def _decode_rows(program: Program, buffers: Buffers, codes: fx.Node, scale: fx.Node, zero: fx.Node | int | None) -> fx.Node:
    form = buffers.form
    columns = prod(form.shape) // max(form.shape[form.axis], 1)
    grouped = form.group_size is not None and not form.per_tensor
    stored = form.scale.shape[1] * form.group_size if form.group_size else columns
    if form.bits < 8:
        codes = unpack_bits(program, codes, form.bits, stored)
    if grouped:
        codes = program.call(aten.unflatten.int, codes, -1, [form.scale.shape[1], form.group_size])
    rows = _dequantise(program, codes, scale, zero, grouped)
    if grouped:
        rows = program.call(aten.flatten.using_ints, rows, -2, -1)
    return program.call(aten.slice.Tensor, rows, -1, 0, columns) if stored != columns else rows


def unpack_bits(program: Program, packed: fx.Node, bits: int, count: int) -> fx.Node:
    """`packing.unpack` as operators on the last dimension."""
    per_block, width = block(bits)
    word = packed
    if width > 1:
        blocks = packed.meta["val"].shape[-1] // width
        wide = program.call(aten.to.dtype, packed, torch.int32 if width < 4 else torch.int64)
        pieces = program.call(aten.unflatten.int, wide, -1, [blocks, width])
        word = program.call(aten.select.int, pieces, -1, 0)
        for i in range(1, width):
            piece = program.call(aten.select.int, pieces, -1, i)
            word = program.call(aten.bitwise_or.Tensor, word, program.call(aten.bitwise_left_shift.Tensor_Scalar, piece, 8 * i))
    codes = []
    for i in range(per_block):
        shifted = program.call(aten.bitwise_right_shift.Tensor_Scalar, word, bits * i) if i else word
        codes.append(program.call(aten.bitwise_and.Scalar, shifted, 2**bits - 1))
    stacked = program.call(aten.stack.default, codes, -1)
    flat = program.call(aten.flatten.using_ints, stacked, -2, -1)
    return program.call(aten.slice.Tensor, flat, -1, 0, count) if flat.meta["val"].shape[-1] != count else flat


def _dequantise(program: Program, codes: fx.Node, scale: fx.Node, zero: fx.Node | int | None, grouped: bool) -> fx.Node:
    """(codes − zero) · scale in float32, the order in which `Quantized.decode` computes."""
    value = program.call(aten.to.dtype, codes, torch.float32)
    if isinstance(zero, fx.Node):
        zero_value = program.call(aten.to.dtype, zero, torch.float32)
        value = program.call(
            aten.sub.Tensor, value, program.call(aten.unsqueeze.default, zero_value, -1) if grouped else zero_value
        )
    elif zero is not None:
        value = program.call(aten.sub.Tensor, value, zero)
    return program.call(aten.mul.Tensor, value, program.call(aten.unsqueeze.default, scale, -1) if grouped else scale)


def _cast(program: Program, value: fx.Node, dtype: str) -> fx.Node:
    return value if dtype == "float32" else program.call(aten.to.dtype, value, torch_dtype(dtype))
