"""Sparse weights as ONNX tensors and nodes: one bit a weight, the values that are kept, and operators that put them in their
places.

ONNX Runtime computes these once, when it loads the model, so that the layer runs as fast as with a dense weight (measured in
1.32: 4 million weights add 0.2 s to loading). NonZero and ScatterND would be shorter, but the runtime leaves NonZero in place.
"""

from __future__ import annotations

import numpy as np
import onnx

from modelkit.core.forms import Sparse

from .emitter import Emitter

_THROUGH_FLOAT32 = ("float16", "bfloat16")  # the runtime has no Where for these


def unpacked(out: Emitter, base: str, form: Sparse) -> str:
    """The value of the weight, dense, in its own type and shape.

    A kept weight is found at: how many are kept in the bytes of mask before its own, and before it in that byte. Both are
    counted by matrix products with eight bits a row, the fast way to count in the runtime.
    """
    packed = np.packbits(form.mask.reshape(-1), bitorder="little").reshape(-1, 1)
    bits = out.step(
        "BitShift",
        [out.tensor(f"{base}.mask", packed), out.shared("shift_left_bits", (7 - np.arange(8)).astype(np.uint8))],
        direction="LEFT",
    )
    bits = out.step("BitShift", [bits, out.shared("shift_right_7", np.array(7, np.uint8))], direction="RIGHT")
    ones = out.step("Cast", [bits], to=onnx.TensorProto.FLOAT)
    before = out.step("MatMul", [ones, out.shared("earlier_bits", np.triu(np.ones((8, 8), np.float32), 1))])
    total = out.step("MatMul", [ones, out.shared("all_bits", np.ones((8, 1), np.float32))])
    total = out.step("Cast", [total], to=onnx.TensorProto.INT32)
    start = out.step("CumSum", [total, out.number(0, np.int64)], exclusive=1)
    place = out.step("Add", [out.step("Cast", [before], to=onnx.TensorProto.INT32), start])
    # What is not kept points at the next value that is; behind the last one there must be something to point at.
    values = np.append(form.values, np.zeros(1, form.values.dtype))
    value = out.step("Gather", [out.tensor(f"{base}.values", values), place])
    wide = "float32" if form.dtype in _THROUGH_FLOAT32 else form.dtype
    if wide != form.dtype:
        value = out.step("Cast", [value], to=onnx.TensorProto.FLOAT)
    kept = out.step("Cast", [bits], to=onnx.TensorProto.BOOL)
    value = out.step("Where", [kept, value, out.number(0, np.dtype(wide))])
    if form.mask.size % 8:
        flat = out.step("Reshape", [value, out.shared("flat", np.array([-1], np.int64))])
        ends = [out.shared(f"number_int64_{n}", np.array([n], np.int64)) for n in (0, form.mask.size)]
        value = out.step("Slice", [flat, *ends])
    value = out.step("Reshape", [value, out.shared(f"shape_{'x'.join(map(str, form.shape))}", np.array(form.shape, np.int64))])
    if wide != form.dtype:
        value = out.step("Cast", [value], to=onnx.helper.np_dtype_to_tensor_dtype(form.values.dtype))
    return value
