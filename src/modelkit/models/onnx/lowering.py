"""Weight forms as ONNX tensors and nodes.

Three ways, each measured in ONNX Runtime 1.32 on a CPU:
- Float operand: integers, unpacked and scaled by Cast, BitShift, Sub and Mul, which the runtime computes once when it loads the
  model. (It leaves a DequantizeLinear of a weight in place: a Conv then dequantises at every run, 0.35 against 0.28 ms, and a
  MatMul becomes an 8-bit MatMulNBits that rounds its activations.)
- Grid operand: DequantizeLinear, for layers whose input is on a grid too; the runtime fuses those into integer kernels.
- Integer operand: the codes themselves, for MatMulInteger. Few-bit codes are unpacked to int8 when the model is loaded.

Sparse weights are float operands too: see sparse.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from modelkit.core.forms import Array, Dense, Quantized, Sparse, WeightForm

from . import sparse
from .emitter import Emitter
from .packing import pack

Fetch = Callable[[str], str]  # a stored tensor's name → the value to compute with: itself, or rows looked up from it


def float_operand(out: Emitter, base: str, form: WeightForm, dtype: str, transposed: bool) -> str:
    """The value of the weight as floats of numpy type `dtype`; `transposed`: for a MatMul, (in, out)."""
    key = ("float", id(form), dtype, transposed)
    if key not in out.written:
        if isinstance(form, Dense):
            out.written[key] = out.tensor(base, form.array.T if transposed else form.array)
        elif isinstance(form, Sparse):
            dense = sparse.unpacked(out, base, form)
            out.written[key] = out.step("Transpose", [dense]) if transposed else dense
        else:
            rows = _rows_as_floats(out, base, form, lambda name: name, 1, form.shape[form.axis])
            out.written[key] = _cast(out, base, _placed(out, base, rows, form, transposed), dtype)
    return out.written[key]


def grid_operand(out: Emitter, base: str, form: Quantized, transposed: bool) -> str:
    """The weight as DequantizeLinear of its codes, float32."""
    key = ("grid", id(form), transposed)
    if key not in out.written:
        codes = _codes(out, base, form, transposed)
        scale, zero = _scale(form), _zero_point(form)
        names = [codes, out.tensor(f"{base}.scale", scale), out.tensor(f"{base}.zero_point", zero)]
        axis: dict[str, int] = {} if scale.ndim == 0 else {"axis": 1 - form.axis if transposed else form.axis}
        out.written[key] = out.node("DequantizeLinear", names, out.fresh(f"{base}.dequantized"), "", **axis)
    return out.written[key]


def integer_operand(out: Emitter, base: str, form: Quantized) -> tuple[str, str, str | None]:
    """(codes (in, out), scale, zero point or None) of a linear weight; scale is () or (out,)."""
    key = ("integer", id(form))
    if key not in out.written:
        out.written[key] = _codes(out, base, form, True)
        out.written[(*key, "scale")] = out.tensor(f"{base}.scale", _scale(form))
        if form.zero_point is not None:
            out.written[(*key, "zero")] = out.tensor(f"{base}.zero_point", _zero_point(form))
    return out.written[key], out.written[(*key, "scale")], out.written.get((*key, "zero"))


def looked_up(out: Emitter, base: str, form: Quantized, index: str, rank: int, output: str, dtype: str) -> None:
    """Rows of a stored table, unpacked after they are looked up, so that the table never stands in memory as floats.
    `rank` is the index's; the result becomes `output`."""

    def fetch(name: str) -> str:
        return out.step("Gather", [name, index])

    rows = _rows_as_floats(out, base, form, fetch, rank, form.shape[0])
    out.node("Cast", [rows], output, to=type_code(dtype))


def _scale(form: Quantized) -> Array:
    return form.scale.reshape(()) if form.per_tensor else form.scale.reshape(-1)


def _zero_point(form: Quantized) -> Array:
    """Of the codes' type and the scale's shape; zeros when the form has none."""
    if form.zero_point is None:
        return np.zeros(_scale(form).shape, form.codes.dtype)
    return form.zero_point.reshape(_scale(form).shape)


def _codes(out: Emitter, base: str, form: Quantized, transposed: bool) -> str:
    """The codes in the operand's layout and in their own 8-bit type."""
    if form.bits == 8:
        return out.tensor(f"{base}.codes", form.codes.T if transposed else form.codes)
    unpacked, offset = _unpacked(out, base, form, lambda name: name, 1)
    if offset:
        unpacked = out.step("Sub", [unpacked, out.number(offset)])
    placed = _placed(out, base, unpacked, form, transposed)
    return _cast(out, base, placed, form.codes.dtype.name)


def _placed(out: Emitter, base: str, rows: str, form: Quantized, transposed: bool) -> str:
    """(channels, everything else) turned into the weight's shape, or its transpose."""
    others = [n for axis, n in enumerate(form.shape) if axis != form.axis]
    order = list(range(1, len(form.shape)))
    order.insert(form.axis, 0)
    if transposed:
        order = order[::-1]
    if len(form.shape) > 2:
        shape = out.tensor(f"{base}.shape", np.array([form.shape[form.axis], *others], np.int64))
        rows = out.step("Reshape", [rows, shape])
    if order != sorted(order):
        rows = out.step("Transpose", [rows], perm=order)
    return rows


def _cast(out: Emitter, base: str, value: str, dtype: str) -> str:
    return value if dtype == "float32" else out.step("Cast", [value], to=type_code(dtype))


def type_code(dtype: str) -> int:
    return int(getattr(onnx.TensorProto, {"float32": "FLOAT", "float64": "DOUBLE"}.get(dtype, dtype.upper())))


def _rows_as_floats(out: Emitter, base: str, form: Quantized, fetch: Fetch, rank: int, channels: int) -> str:
    """(…, row) float32 from what is stored; `rank` dimensions stand before the row."""
    row = form.codes.size // max(channels, 1)
    value, offset = _unpacked(out, base, form, fetch, rank)
    groups = form.scale.shape[1] if form.group_size else 1
    if form.group_size and groups > 1:
        value = _reshape(out, base, value, rank, [groups, form.group_size])

    def per_group(name: str, array: Array) -> str:
        if array.size == 1:
            return out.tensor(name, array.reshape(()))
        stored = out.tensor(name, array.reshape(channels, groups, 1) if groups > 1 else array.reshape(channels, 1))
        return fetch(stored)

    if form.zero_point is not None:
        zero = per_group(
            f"{base}.zero_point", (form.zero_point.astype(np.int16) + offset).astype(np.uint8 if offset else form.codes.dtype)
        )
        zero = out.step("Cast", [zero], to=type_code("float32"))
        value = out.step("Sub", [value, zero])
    elif offset:
        value = out.step("Sub", [value, out.number(offset)])
    value = out.step("Mul", [value, per_group(f"{base}.scale", form.scale)])
    if form.group_size and groups > 1:
        value = _reshape(out, base, value, rank, [groups * form.group_size])
        value = _cut(out, base, value, groups * form.group_size, row)
    return value


def _unpacked(out: Emitter, base: str, form: Quantized, fetch: Fetch, rank: int) -> tuple[str, int]:
    """The stored codes as float32, (…, columns), and what was added to them to make them unsigned.

    The columns are those of whole groups when the form has several."""
    rows = form.rows()
    if form.group_size and form.scale.shape[1] > 1:
        rows = np.pad(rows, ((0, 0), (0, form.scale.shape[1] * form.group_size - rows.shape[1])))
    if form.bits == 8:
        stored = out.tensor(f"{base}.codes", rows)
        return out.step("Cast", [fetch(stored)], to=type_code("float32")), 0
    offset = 1 << (form.bits - 1) if form.signed else 0
    total = ""
    for plane in pack((rows.astype(np.int16) + offset).astype(np.uint8), form.bits):
        name = f"{base}.codes" if plane.weight == 1 else f"{base}.codes.{plane.weight}"
        value = fetch(out.tensor(name, plane.packed))
        value = out.step("BitShift", [value, _shift(out, plane.left)], direction="LEFT")
        value = out.step("BitShift", [value, _shift(out, plane.right)], direction="RIGHT")
        value = _reshape(out, base, value, rank, [plane.columns])
        value = _cut(out, base, value, plane.columns, rows.shape[1])
        value = out.step("Cast", [value], to=type_code("float32"))
        if total:
            value = out.step("Mul", [value, out.number(plane.weight)])
            value = out.step("Add", [total, value])
        total = value
    return total, offset


def _shift(out: Emitter, amounts: Array) -> str:
    key = ("shift", amounts.tobytes(), amounts.shape)
    if key not in out.written:
        out.written[key] = out.tensor(f"shift_{'_'.join(map(str, amounts.reshape(-1)))}", amounts)
    return out.written[key]


def _reshape(out: Emitter, base: str, value: str, rank: int, tail: list[int]) -> str:
    """Everything behind the first `rank` dimensions to `tail`; 0 keeps a dimension."""
    key = ("shape", rank, tuple(tail))
    if key not in out.written:
        out.written[key] = out.tensor(
            f"shape_{'x'.join(map(str, [*[0] * rank, *tail]))}", np.array([*[0] * rank, *tail], np.int64)
        )
    return out.node("Reshape", [value, out.written[key]], out.fresh(f"{base}.reshaped"))


def _cut(out: Emitter, base: str, value: str, width: int, wanted: int) -> str:
    """The first `wanted` columns of `width`."""
    if width == wanted:
        return value
    ends = [("zero", 0), ("end", wanted), ("axis", -1)]
    names = []
    for role, number in ends:
        key = ("slice", role, number)
        if key not in out.written:
            out.written[key] = out.tensor(f"slice_{role}_{number}", np.array([number], np.int64))
        names.append(out.written[key])
    return out.step("Slice", [value, *names])


def numpy_dtype(name: str) -> np.dtype[Any]:
    return onnx.helper.tensor_dtype_to_np_dtype(type_code(name))
