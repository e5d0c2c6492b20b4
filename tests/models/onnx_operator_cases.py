"""One small ONNX model for each use of an operator: name, inputs, attributes. Constants are wrapped in `C`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MS = "com.microsoft"
_random = np.random.default_rng(0)


def f(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Random floats."""
    return np.asarray(_random.uniform(low, high, shape), np.float32)


def i(*entries: Any, dtype: Any = np.int64) -> np.ndarray:
    """Integers as given."""
    return np.array(entries, dtype)


def b(*shape: int) -> np.ndarray:
    """Random booleans."""
    return np.asarray(_random.random(shape) < 0.5)


@dataclass
class C:
    """A constant input."""

    value: Any

    def array(self) -> np.ndarray:
        value = np.asarray(self.value)
        return value.astype(np.int64) if value.dtype == int else value


def S(value: Any, dtype: Any = np.float32) -> C:
    """A constant scalar."""
    return C(np.asarray(value, dtype))


@dataclass
class Case:
    """`inputs` are arrays (graph inputs), C (initializers) or None (absent)."""

    operator: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""
    opset: int = 17
    outputs: int = 1
    fixed: bool = False  # the leading dimension can't be open

    @property
    def name(self) -> str:
        attributes = ",".join(
            f"{key}={value}" for key, value in self.attributes.items() if not isinstance(value, onnx.TensorProto)
        )
        return f"{self.operator}-{self.opset}-{attributes}"

    def model(self) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        """The model, its first input's leading dimension open, and arrays for its inputs."""
        names, arrays, values, constants = [], {}, [], []
        for position, given in enumerate(self.inputs):
            names.append("" if given is None else f"x{position}")
            if isinstance(given, C):
                constants.append(numpy_helper.from_array(given.array(), names[-1]))
            elif given is not None:
                shape: list[Any] = list(given.shape)
                if shape and not arrays and not self.fixed:
                    shape[0] = "N"
                arrays[names[-1]] = given
                values.append(helper.make_tensor_value_info(names[-1], helper.np_dtype_to_tensor_dtype(given.dtype), shape))
        results = [f"y{k}" for k in range(self.outputs)]
        node = helper.make_node(self.operator, names, results, domain=self.domain, **self.attributes)
        outputs = [onnx.ValueInfoProto(name=name) for name in results]
        graph = helper.make_graph([node], "g", values, outputs, constants)
        opsets = [helper.make_opsetid("", self.opset)] + ([helper.make_opsetid(self.domain, 1)] if self.domain else [])
        return helper.make_model(graph, opset_imports=opsets, ir_version=10), arrays


def c(
    operator: str, *inputs: Any, opset: int = 17, domain: str = "", outputs: int = 1, fixed: bool = False, **attributes: Any
) -> Case:
    return Case(operator, inputs, attributes, domain, opset, outputs, fixed)


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


def activations() -> Iterator[Case]:
    x = f(3, 4, 5)
    for operator in (
        "Relu",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "HardSigmoid",
        "HardSwish",
        "Softplus",
        "Softsign",
        "ThresholdedRelu",
    ):
        yield c(operator, x)
    yield c("LeakyRelu", x, alpha=0.3)
    yield c("Celu", x, alpha=2.0)
    yield c("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    yield c("Mish", x, opset=18)
    yield c("Gelu", x, opset=20)
    yield c("Gelu", x, opset=20, approximate="tanh")
    yield c("Gelu", x, domain=MS)
    yield c("FastGelu", x, C(f(5)), domain=MS)
    yield c("BiasGelu", x, C(f(5)), domain=MS)
    yield c("QuickGelu", x, domain=MS)
    yield c("PRelu", x, C(f(4, 1)))
    yield c("PRelu", x, C(f(5)))
    yield c("Shrink", x, lambd=0.5, bias=0.2)
    for axis in (-1, 1):
        yield c("Softmax", x, axis=axis)
        yield c("LogSoftmax", x, axis=axis)
        yield c("Hardmax", x, axis=axis)
    yield c("Clip", x, S(-1), S(1))
    yield c("Clip", x, None, S(1))
    yield c("Clip", x, S(0))
    yield c("Clip", x, f())


def linear_algebra() -> Iterator[Case]:
    yield c("MatMul", f(2, 3, 4), f(4, 5))
    yield c("MatMul", f(2, 3, 4), C(f(4, 5)))
    yield c("MatMul", f(2, 3, 4), C(f(2, 4, 5)), fixed=True)
    yield c("MatMul", f(4), C(f(4, 5)), fixed=True)
    yield c("MatMul", C(f(6, 4)), f(4, 5), fixed=True)
    yield c("Gemm", f(3, 4), C(f(4, 5)), C(f(5)))
    yield c("Gemm", f(3, 4), C(f(5, 4)), C(f(5)), transB=1)
    yield c("Gemm", f(3, 4), C(f(5, 4)), C(f(1, 5)), transB=1, alpha=0.5, beta=2.0)
    yield c("Gemm", f(4, 3), C(f(4, 5)), transA=1)
    yield c("FusedMatMul", f(2, 3, 4), f(2, 5, 4), domain=MS, transB=1, alpha=0.5)
    yield c("FusedMatMul", f(2, 4, 3), f(2, 4, 5), domain=MS, transA=1)


def convolution() -> Iterator[Case]:
    yield c("Conv", f(2, 3, 9), C(f(4, 3, 3)), C(f(4)), pads=[1, 1])
    yield c("Conv", f(2, 4, 9, 8), C(f(6, 4, 3, 3)), C(f(6)), strides=[2, 1], pads=[1, 1, 1, 1])
    yield c("Conv", f(2, 4, 9, 8), C(f(4, 1, 3, 3)), group=4, dilations=[2, 1])
    yield c("Conv", f(2, 4, 9, 8), C(f(6, 2, 3, 3)), group=2, pads=[0, 1, 2, 1])
    yield c("Conv", f(2, 2, 5, 6, 7), C(f(3, 2, 2, 3, 2)), strides=[1, 2, 1])
    yield c("Conv", f(2, 3, 9, 8), f(4, 3, 3, 3))
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        for stride in (1, 2):
            yield c("Conv", f(2, 3, 9, 8), C(f(4, 3, 2, 3)), auto_pad=mode, strides=[stride, stride])
    yield c("ConvTranspose", f(2, 3, 5), C(f(3, 4, 3)), C(f(4)), strides=[2])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), strides=[2, 2], pads=[0, 1, 1, 1])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), group=2, dilations=[2, 2])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), strides=[2, 2], output_shape=[10, 12])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), strides=[2, 2], auto_pad="SAME_UPPER")
    yield c("ConvTranspose", f(2, 2, 3, 4, 3), C(f(2, 3, 2, 2, 2)), strides=[2, 2, 2])


def pooling() -> Iterator[Case]:
    x = f(2, 3, 9, 8)
    for operator in ("MaxPool", "AveragePool"):
        yield c(operator, x, kernel_shape=[3, 3], strides=[2, 2])
        yield c(operator, x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        yield c(operator, x, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])
        yield c(operator, x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        yield c(operator, x, kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        yield c(operator, x, kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_LOWER")
        yield c(operator, f(2, 3, 9), kernel_shape=[3], strides=[2])
        yield c(operator, f(2, 3, 6, 7, 8), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    yield c("MaxPool", x, kernel_shape=[3, 3], dilations=[2, 2])
    yield c("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], outputs=2)
    yield c("MaxPool", np.asarray(f(2, 3, 8, 8) * 50 + 120, np.uint8), kernel_shape=[2, 2], strides=[2, 2])
    yield c("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    yield c("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 1], count_include_pad=1)
    yield c("AveragePool", x, kernel_shape=[2, 2], dilations=[2, 2], opset=19)
    for operator in ("GlobalAveragePool", "GlobalMaxPool"):
        yield c(operator, x)
        yield c(operator, f(2, 3, 5))
    yield c("LpPool", x, kernel_shape=[2, 2], strides=[2, 2], p=2)


def normalization() -> Iterator[Case]:
    x = f(2, 6, 5, 4)
    yield c("BatchNormalization", x, C(f(6)), C(f(6)), C(f(6)), C(f(6, low=0.1)), epsilon=1e-3)
    yield c("BatchNormalization", f(3, 6), C(f(6)), C(f(6)), C(f(6)), C(f(6, low=0.1)))
    yield c("InstanceNormalization", x, C(f(6)), C(f(6)))
    yield c("GroupNormalization", x, C(f(3)), C(f(3)), opset=18, num_groups=3)
    yield c("GroupNormalization", x, C(f(6)), C(f(6)), opset=21, num_groups=3)
    yield c("LayerNormalization", x, C(f(4)), C(f(4)))
    yield c("LayerNormalization", x, C(f(5, 4)), axis=2)
    yield c("LayerNormalization", x, C(f(4)), C(f(4)), outputs=3)
    yield c("RMSNormalization", x, C(f(4)), opset=23)
    yield c("SimplifiedLayerNormalization", x, C(f(4)), axis=-1, epsilon=1e-5)
    yield c("SkipLayerNormalization", f(2, 3, 8), f(2, 3, 8), C(f(8)), C(f(8)), domain=MS)
    yield c("SkipSimplifiedLayerNormalization", f(2, 3, 8), f(2, 3, 8), C(f(8)), domain=MS)
    yield c("LRN", x, size=3, alpha=0.01)
    yield c("LpNormalization", x, axis=1, p=2)
    yield c("LpNormalization", x, axis=-1, p=1)
    yield c("MeanVarianceNormalization", x)


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


def resizing() -> Iterator[Case]:
    x = f(1, 2, 4, 5)
    none, scales = C(np.zeros(0, np.float32)), C(np.array([1, 1, 2, 1.6], np.float32))
    whole = C(np.array([1, 1, 2, 3], np.float32))
    down = C(np.array([1, 1, 0.5, 0.6], np.float32))
    for transformation in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        for mode in ("nearest", "linear", "cubic"):
            for scale in (scales, whole, down):
                yield c("Resize", x, none, scale, opset=19, mode=mode, coordinate_transformation_mode=transformation, fixed=True)
    for rounding in ("floor", "ceil", "round_prefer_ceil"):
        yield c("Resize", x, none, scales, opset=19, mode="nearest", nearest_mode=rounding, fixed=True)
        yield c(
            "Resize",
            x,
            None,
            None,
            C([1, 2, 7, 5]),
            opset=19,
            coordinate_transformation_mode="asymmetric",
            nearest_mode=rounding,
            fixed=True,
        )
    yield c("Resize", x, None, None, C([1, 2, 7, 9]), opset=19, mode="linear", fixed=True)
    yield c("Resize", x, None, None, C([7, 9]), opset=19, mode="linear", axes=[2, 3], fixed=True)
    yield c("Resize", x, none, scales, opset=19, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5, fixed=True)
    yield c("Resize", x, none, scales, opset=19, mode="linear", coordinate_transformation_mode="half_pixel_symmetric", fixed=True)
    box = C(np.array([0, 0, 0.2, 0.1, 1, 1, 0.8, 1.2], np.float32))
    yield c("Resize", x, box, scales, opset=19, mode="linear", coordinate_transformation_mode="tf_crop_and_resize", fixed=True)
    yield c("GridSample", f(2, 3, 4, 5), f(2, 6, 7, 2, low=-1.1, high=1.1))
    yield c("GridSample", f(2, 3, 4, 5), f(2, 6, 7, 2), mode="nearest", padding_mode="border", align_corners=1)


def recurrence() -> Iterator[Case]:
    for direction, d in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        x, h = f(6, 3, 4), 5
        yield c("LSTM", x, C(f(d, 4 * h, 4)), C(f(d, 4 * h, h)), C(f(d, 8 * h)), outputs=3, direction=direction, hidden_size=h)
        yield c(
            "GRU",
            x,
            C(f(d, 3 * h, 4)),
            C(f(d, 3 * h, h)),
            C(f(d, 6 * h)),
            outputs=2,
            direction=direction,
            hidden_size=h,
            linear_before_reset=1,
        )
        activations = ["Tanh"] * d
        yield c(
            "RNN",
            x,
            C(f(d, h, 4)),
            C(f(d, h, h)),
            C(f(d, 2 * h)),
            outputs=2,
            direction=direction,
            hidden_size=h,
            activations=activations,
        )
    states = (f(1, 3, 5), f(1, 3, 5))
    yield c(
        "LSTM",
        f(6, 3, 4),
        C(f(1, 20, 4)),
        C(f(1, 20, 5)),
        None,
        C(i(6, 6, 6, dtype=np.int32)),
        *states,
        outputs=3,
        hidden_size=5,
        fixed=True,
    )
    yield c("GRU", f(6, 3, 4), f(1, 15, 4), C(f(1, 15, 5)), outputs=2, hidden_size=5, linear_before_reset=1)
    yield c("RNN", f(6, 3, 4), C(f(1, 5, 4)), C(f(1, 5, 5)), hidden_size=5, activations=["Relu"])
    w, r = C(f(1, 15, 4)), C(f(1, 15, 5))
    yield c("GRU", f(6, 3, 4), w, r, C(f(1, 30)), outputs=2, hidden_size=5, fixed=True)
    lengths = C(i(6, 2, 4, dtype=np.int32))
    yield c("GRU", f(6, 3, 4), w, r, C(f(1, 30)), lengths, outputs=2, hidden_size=5, linear_before_reset=1, direction="reverse", fixed=True)
    w, r = C(f(2, 20, 4)), C(f(2, 20, 5))
    both = {"direction": "bidirectional", "hidden_size": 5, "outputs": 3, "fixed": True}
    yield c("LSTM", f(6, 3, 4), w, r, C(f(2, 40)), lengths, None, None, C(f(2, 15)), **both)
    yield c("LSTM", f(6, 3, 4), w, r, C(f(2, 40)), input_forget=1, clip=0.7, **both)


def attention() -> Iterator[Case]:
    q, k, v = f(2, 4, 6, 8), f(2, 4, 7, 8), f(2, 4, 7, 8)
    yield c("Attention", q, k, v, opset=23, fixed=True)
    yield c("Attention", q, k, v, f(6, 7), opset=23, scale=0.2, fixed=True)
    yield c("Attention", q, f(2, 4, 6, 8), f(2, 4, 6, 8), opset=23, is_causal=1, fixed=True)
    yield c("Attention", f(2, 6, 32), f(2, 7, 32), f(2, 7, 32), opset=23, q_num_heads=4, kv_num_heads=4, fixed=True)
    yield c("Attention", q, k, v, None, f(2, 4, 3, 8), f(2, 4, 3, 8), opset=23, outputs=3, fixed=True)
    yield c("MultiHeadAttention", f(2, 6, 32), f(2, 7, 32), f(2, 7, 32), C(f(96)), domain=MS, num_heads=4, fixed=True)
    positions = i([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])
    for interleaved in (0, 1):
        yield c("RotaryEmbedding", q, C(f(10, 4)), C(f(10, 4)), positions, opset=23, interleaved=interleaved, fixed=True)
        yield c("RotaryEmbedding", q, positions, C(f(10, 4)), C(f(10, 4)), domain=MS, interleaved=interleaved, fixed=True)


def u8(*shape: int) -> np.ndarray:
    return _random.integers(0, 256, shape).astype(np.uint8)


def s8(*shape: int) -> np.ndarray:
    """Seven bits: ONNX Runtime's eight-bit products saturate on CPUs without VNNI."""
    return _random.integers(-63, 64, shape).astype(np.int8)


def quantization() -> Iterator[Case]:
    x = f(3, 4, 5)
    yield c("QuantizeLinear", x, S(0.03), S(128, np.uint8))
    yield c("QuantizeLinear", x, S(0.01), S(3, np.int8))
    yield c("QuantizeLinear", x, S(0.01))
    yield c("QuantizeLinear", x, C(f(4, low=0.01, high=0.1)), C(u8(4)), axis=1)
    yield c("QuantizeLinear", x, S(1e-4), S(0, np.int16), opset=21)
    yield c("QuantizeLinear", f(2, 8), C(f(2, 2, low=0.01, high=0.1)), C(s8(2, 2)), opset=21, axis=1, block_size=4, fixed=True)
    yield c("DequantizeLinear", u8(3, 4), S(0.1), S(7, np.uint8))
    yield c("DequantizeLinear", i(5, -3, dtype=np.int32), S(0.1))
    yield c("DequantizeLinear", C(s8(3, 4)), C(f(4, low=0.01, high=0.1)), C(s8(4)), axis=1)
    yield c("DequantizeLinear", s8(2, 8), C(f(2, 2, low=0.01, high=0.1)), opset=21, axis=1, block_size=4, fixed=True)
    yield c("DynamicQuantizeLinear", x, outputs=3)
    yield c("MatMulInteger", u8(3, 4), C(s8(4, 5)), S(100, np.uint8), C(s8(5)))
    yield c("MatMulInteger", u8(3, 4), u8(4, 5))
    yield c("ConvInteger", u8(2, 3, 6, 6), C(u8(4, 3, 3, 3)), S(100, np.uint8), S(120, np.uint8), pads=[1, 1, 1, 1])
    scale = (S(0.02), S(120, np.uint8))
    yield c("QLinearMatMul", u8(3, 4), *scale, C(s8(4, 5)), C(f(5, low=0.01, high=0.02)), C(s8(5) * 0), S(0.1), S(128, np.uint8))
    bias = C(i(10, -500, 30, 7, dtype=np.int32))
    weight = (C(s8(4, 3, 3, 3)), C(f(4, low=0.01, high=0.02)), C(s8(4) * 0))
    yield c("QLinearConv", u8(2, 3, 6, 6), *scale, *weight, S(0.3), S(128, np.uint8), bias, pads=[1, 1, 1, 1])
    for operator in ("QLinearAdd", "QLinearMul"):
        yield c(operator, u8(3, 4), *scale, u8(3, 4), S(0.03), S(100, np.uint8), S(0.06), S(110, np.uint8), domain=MS)
    yield c("QLinearSigmoid", u8(3, 4), *scale, S(1 / 256), S(0, np.uint8), domain=MS)
    yield c("QLinearGlobalAveragePool", u8(2, 3, 4, 4), *scale, *scale, domain=MS, channels_last=0)
    yield c("QLinearConcat", *scale, u8(3, 4), S(0.03), S(100, np.uint8), u8(3, 2), *scale, domain=MS, axis=1)
    yield c(
        "QGemm", u8(3, 4), *scale, C(s8(5, 4)), S(0.01), S(0, np.int8), C(i(1, 2, 3, 4, 5, dtype=np.int32)), domain=MS, transB=1
    )
    yield c("DynamicQuantizeMatMul", f(3, 4), C(s8(4, 5)), C(f(5, low=0.01, high=0.02)), None, C(f(5)), domain=MS)
    yield c("MatMulNBits", f(3, 64), C(u8(6, 2, 16)), C(f(12)), domain=MS, K=64, N=6, bits=4, block_size=32)
    yield c("MatMulNBits", f(3, 96), C(u8(6, 3, 16)), C(f(18)), C(u8(6 * 2)), domain=MS, K=96, N=6, bits=4, block_size=32)
    yield c("MatMulNBits", f(3, 64), C(u8(6, 2, 32)), C(f(12)), domain=MS, K=64, N=6, bits=8, block_size=32)


def all_cases() -> list[Case]:
    families = (elementwise, activations, linear_algebra, convolution, pooling, normalization, shapes, indexing, reductions)
    return [case for family in (*families, resizing, recurrence, attention, quantization) for case in family()]
