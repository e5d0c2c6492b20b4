"""Arithmetic, shapes, indices and reductions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto, helper

from .case import MS, C, Case, S, b, c, f, i


def elementwise() -> Iterator[Case]:
    for operator in ("Add", "Sub", "Mul", "Div"):
        yield c(operator, f(3, 4), f(4))
        yield c(operator, f(3, 4), C(f(1, low=0.5)))
        yield c(operator, S(2.5), f(3, 4, low=0.5))
        yield c(operator, i(7, -7, 5), i(2, 2, -3))
    for operator in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        yield c(operator, i(1, 2, 3), i(3, 2, 1))
        yield c(operator, S(0.1), f(3, 4))
    for operator in ("And", "Or", "Xor"):
        yield c(operator, b(3, 4), b(4))
    yield c("Not", b(5))
    yield c("Mod", i(7, -7, 5), i(3, 3, -3))
    yield c("Mod", f(6), f(6), fmod=1)
    yield c("Pow", f(3, 4, low=0.1), f(4))
    yield c("Pow", f(3, 4), S(2))
    yield c("Pow", f(3, 4), S(3, np.int64))
    yield c("Max", f(3, 4), f(4), C(f(1)))
    yield c("Min", f(3, 4), f(4))
    yield c("Sum", f(3, 4), f(4), f(3, 1))
    yield c("Mean", f(3, 4), f(4), f(3, 1))
    yield c("Where", b(3, 4), f(3, 4), f(4))
    yield c("Where", b(3, 4), S(-1e9), f(3, 4))
    yield c("Where", b(3, 4), f(3, 4), S(0.0))
    yield c("BitShift", i(1, 2, 3, dtype=np.uint8), i(1, 2, 3, dtype=np.uint8), direction="LEFT")
    yield c("BitwiseAnd", i(12, 10), i(10, 6), opset=18)
    for operator in (
        "Abs",
        "Ceil",
        "Cos",
        "Erf",
        "Exp",
        "Floor",
        "Neg",
        "Round",
        "Sigmoid",
        "Sign",
        "Sin",
        "Tanh",
        "Atan",
        "Sinh",
        "Tan",
    ):
        yield c(operator, f(3, 4))
    for operator in ("Log", "Sqrt", "Reciprocal"):
        yield c(operator, f(3, 4, low=0.1))
    for operator in ("Acos", "Asin", "Atanh"):
        yield c(operator, f(3, 4, low=-0.9, high=0.9))
    yield c("Round", np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32))
    yield c("IsNaN", np.array([1, np.nan, np.inf], np.float32))
    yield c("IsInf", np.array([-np.inf, np.nan, np.inf], np.float32))
    yield c("IsInf", np.array([-np.inf, np.nan, np.inf], np.float32), detect_positive=0)
    for to in (TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.UINT8):
        yield c("Cast", f(3, 4, low=0.0, high=9.0), to=to)
    yield c("CastLike", f(3, 4), i(1))
    yield c("Identity", f(3, 4))
    yield c("Dropout", f(3, 4), S(0.3))
    yield c("Trilu", f(2, 4, 4))
    yield c("Trilu", f(2, 4, 5), S(1, np.int64), upper=0)
    yield c("CumSum", f(3, 4), S(1, np.int64))
    yield c("CumSum", f(3, 4), S(0, np.int64), exclusive=1, reverse=1)
    yield c("Einsum", f(2, 3, 4), f(2, 4, 5), equation="bij, bjk -> bik")


def linear_algebra() -> Iterator[Case]:
    yield c("MatMul", f(2, 3, 4), f(4, 5))
    yield c("MatMul", f(2, 3, 4), C(f(4, 5)))
    yield c("MatMul", f(2, 3, 4), C(f(2, 4, 5)), fixed=True)
    yield c("MatMul", f(4), C(f(4, 5)), fixed=True)
    yield c("MatMul", C(f(6, 4)), f(4, 5), fixed=True)
    yield c("Gemm", f(3, 4), C(f(4, 5)), C(f(5)))
    yield c("Gemm", f(3, 4), C(f(5, 4)), C(f(5)), transB=1)
    yield c("Gemm", f(3, 4), C(f(5, 4)), C(f(1, 5)), transB=1, alpha=0.5, beta=2.0)
    yield c("Gemm", f(4, 3), C(f(4, 5)), transA=1, fixed=True)
    yield c("FusedMatMul", f(2, 3, 4), f(2, 5, 4), domain=MS, transB=1, alpha=0.5)
    yield c("FusedMatMul", f(2, 4, 3), f(2, 4, 5), domain=MS, transA=1)


def shapes() -> Iterator[Case]:
    x = f(2, 3, 4)
    yield c("Reshape", x, C([0, -1]))
    yield c("Reshape", x, C([-1, 2, 6]))
    yield c("Reshape", x, i(3, 8), fixed=True)
    for axis in (0, 1, 2, 3, -1):
        yield c("Flatten", x, axis=axis)
    yield c("Transpose", x, perm=[1, 2, 0])
    yield c("Transpose", x)
    yield c("Squeeze", f(2, 1, 3, 1), C([1, -1]))
    yield c("Squeeze", f(2, 1, 3, 1))
    yield c("Unsqueeze", x, C([0, -1]))
    yield c("Expand", f(2, 1, 4), C([3, 1]))
    yield c("Expand", f(3, 1), C([2, 1, 4]))
    yield c("Concat", x, f(2, 5, 4), axis=1)
    yield c("Concat", x, C(f(1, 3, 4)), axis=0)
    yield c("Split", x, C([1, 2]), axis=1, outputs=2)
    yield c("Split", f(2, 4), axis=1, outputs=2)
    yield c("Split", f(2, 7), opset=18, axis=1, num_outputs=3, outputs=3)
    yield c("Tile", x, C([1, 2, 3]))
    yield c("Slice", f(4, 6), C([1, 0]), C([3, 5]), C([0, 1]), C([1, 2]))
    yield c("Slice", f(4, 6), C([-1]), C([-(2**62)]), C([1]), C([-1]))
    yield c("Slice", f(4, 6), C([4]), C([0]), C([1]), C([-2]))
    yield c("Slice", f(4, 6), C([1]), C([2**62]))
    yield c("Slice", f(4, 6), C([-3]), C([-1]), C([-1]))
    yield c("Pad", x, C([0, 1, 2, 1, 0, 3]))
    yield c("Pad", x, C([0, 0, -1, 0, 0, 2]), S(1.5))
    yield c("Pad", x, C([1, 2]), None, C([-1]), opset=18)
    for mode in ("reflect", "edge"):
        yield c("Pad", f(2, 3, 5, 6), C([0, 0, 1, 2, 0, 0, 2, 1]), mode=mode)
        yield c("Pad", f(3, 5), C([1, 2, 0, 1]), mode=mode)
    yield c("Pad", f(2, 5), C([0, 3, 0, 1]), mode="wrap", opset=19)
    yield c("DepthToSpace", f(2, 8, 3, 4), blocksize=2)
    yield c("DepthToSpace", f(2, 8, 3, 4), blocksize=2, mode="CRD")
    yield c("SpaceToDepth", f(2, 3, 4, 6), blocksize=2)
    yield c("Shape", x)
    yield c("Shape", x, start=1, end=-1)
    yield c("Size", x)
    yield c("ConstantOfShape", i(2, 3), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.5]), fixed=True)
    yield c("Range", S(0), S(2), S(0.25))
    yield c("EyeLike", f(3, 4), k=1)
    yield c("OneHot", i(0, 2, -1, 5), S(4, np.int64), C(np.array([0, 1], np.float32)))
    yield c("OneHot", i([0, 2], [1, 1]), S(3, np.int64), C(np.array([-1, 1], np.float32)), axis=1)
    yield c("ReverseSequence", f(5, 3, 2), i(5, 2, 1), time_axis=0, batch_axis=1)


def indexing() -> Iterator[Case]:
    x = f(4, 5, 6)
    yield c("Gather", x, i([0, 3], [-1, 2]), axis=1)
    yield c("Gather", C(f(9, 4)), i([0, 3], [8, 2]))
    yield c("Gather", x, S(-1, np.int64), axis=1)
    yield c("Gather", x, C([0, -2]), axis=2)
    yield c("GatherElements", f(3, 4), i([0, -1], [2, 1], [1, 0]), axis=1)
    yield c("GatherND", x, i([0, 1], [3, -1]))
    yield c("GatherND", f(2, 3, 4), i([1], [-1]), batch_dims=1)
    yield c("ScatterElements", f(3, 4), i([0, -1], [2, 1], [1, 0]), f(3, 2), axis=1)
    for reduction in ("add", "mul", "max", "min"):
        yield c("ScatterElements", f(3, 4), i([0, 0], [2, 1], [1, 0]), f(3, 2), axis=1, reduction=reduction, opset=18)
        yield c("ScatterND", f(4, 3), i([1], [1], [-1]), f(3, 3), reduction=reduction, opset=18)
    yield c("ScatterND", f(4, 3), i([1], [2]), f(2, 3))
    yield c("ScatterND", f(4, 3), i([1, 0], [-1, 2]), f(2))
    yield c("TopK", f(3, 6), C([2]), outputs=2)
    yield c("TopK", f(3, 6), C([2]), outputs=2, axis=0, largest=0)
    yield c("NonZero", np.asarray(b(3, 4), np.float32))
    yield c("Compress", f(3, 4), b(4), axis=1)
    yield c("Unique", i(3, 1, 1, 2))
    for operator in ("ArgMax", "ArgMin"):
        yield c(operator, x, axis=1)
        yield c(operator, x, axis=-1, keepdims=0)
    yield c("ArgMax", np.ones((3, 4), np.float32), axis=1, select_last_index=1)


def reductions() -> Iterator[Case]:
    x = f(3, 4, 5, low=0.1)
    for name in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"):
        yield c(f"Reduce{name}", x, C([1, -1]), opset=18, keepdims=0)
        yield c(f"Reduce{name}", x, opset=18)
        if name != "Sum":
            yield c(f"Reduce{name}", x, axes=[1])
    yield c("ReduceSum", x, C([2]))
    yield c("ReduceSum", x, noop_with_empty_axes=1)
    yield c("ReduceMean", i([1, 2], [4, 9]), axes=[1])
