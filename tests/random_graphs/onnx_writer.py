"""Random networks as ONNX models."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .writer import Array, Value


class OnnxWriter:
    """Collects nodes. `computed`: shapes of reshapes are computed from the input's batch, as exporters write them."""

    def __init__(self, shape: tuple[int, ...], computed: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}
        self.computed, self.shape = computed, shape
        self.input = Value("x", shape)

    def model(self, output: Value) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *self.shape])],
            [helper.make_tensor_value_info(output.key, TensorProto.FLOAT, ["batch", *output.shape])],
            list(self.tensors.values()),
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def tensor(self, array: Array) -> str:
        """One tensor for one array: what is given twice is shared."""
        name = next(
            (name for name, held in self.tensors.items() if held.raw_data == array.tobytes() and tuple(held.dims) == array.shape),
            "",
        )
        if not name:
            name = f"t{len(self.tensors)}"
            self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def integers(self, *numbers: int) -> str:
        return self.tensor(np.array(numbers, np.int64))

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: object) -> Value:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return Value(name, shape)

    def conv(self, x, weight, bias, groups):
        pad = weight.shape[2] // 2
        inputs = [x.key, self.tensor(weight), *([] if bias is None else [self.tensor(bias)])]
        return self.node("Conv", inputs, (weight.shape[0], *x.shape[1:]), pads=[pad] * 4, group=groups)

    def transposed_conv(self, x, weight, groups):
        shape = (weight.shape[1] * groups, *(2 * n for n in x.shape[1:]))
        return self.node("ConvTranspose", [x.key, self.tensor(weight)], shape, strides=[2, 2], group=groups)

    def linear(self, x, weight, bias):
        y = self.node("MatMul", [x.key, self.tensor(weight.T.copy())], (*x.shape[:-1], len(weight)))
        return y if bias is None else self.node("Add", [y.key, self.tensor(bias)], y.shape)

    def batch_norm(self, x, weight, bias, mean, variance):
        return self.node("BatchNormalization", [x.key, *map(self.tensor, (weight, bias, mean, variance))], x.shape)

    def activation(self, x, name):
        return self.node({"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}[name], [x.key], x.shape)

    def add(self, a, b):
        return self.node("Add", [a.key, b.key], np.broadcast_shapes(a.shape, b.shape))

    def mul(self, a, b):
        return self.node("Mul", [a.key, b.key], np.broadcast_shapes(a.shape, b.shape))

    def scale(self, x, factor):
        return self.node("Mul", [x.key, self.tensor(factor)], x.shape)

    def concat(self, values, axis):
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self.node("Concat", [value.key for value in values], tuple(shape), axis=axis + 1)

    def split(self, x, sizes, axis):
        names = [f"v{len(self.nodes)}_{i}" for i in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [x.key, self.integers(*sizes)], names, axis=axis + 1))
        return [Value(name, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for name, size in zip(names, sizes, strict=True)]

    def reshape(self, x, shape):
        if not self.computed:
            return self.node("Reshape", [x.key, self.integers(0, *shape)], shape)
        sizes = self.node("Shape", [x.key], ())
        batch = self.node("Slice", [sizes.key, self.integers(0), self.integers(1)], ())
        target = self.node("Concat", [batch.key, *(self.integers(n) for n in shape)], (), axis=0)
        return self.node("Reshape", [x.key, target.key], shape)

    def transpose(self, x, order):
        return self.node("Transpose", [x.key], tuple(x.shape[i] for i in order), perm=[0, *(i + 1 for i in order)])

    def matmul(self, a, b):
        return self.node("MatMul", [a.key, b.key], (*a.shape[:-1], b.shape[-1]))

    def softmax(self, x):
        return self.node("Softmax", [x.key], x.shape, axis=-1)

    def mean(self, x, axes, keep):
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes)
        return self.node("ReduceMean", [x.key, self.integers(*(i + 1 for i in axes))], shape, keepdims=int(keep))

    def slice(self, x, axis, start, end, step):
        bounds = [self.integers(n) for n in (start, end, axis + 1, step)]
        size = len(range(start, end, step))
        return self.node("Slice", [x.key, *bounds], (*x.shape[:axis], size, *x.shape[axis + 1 :]))

    def pad(self, x, axis, before, after):
        rank = len(x.shape) + 1
        pads = [0] * 2 * rank
        pads[axis + 1], pads[axis + 1 + rank] = before, after
        return self.node(
            "Pad", [x.key, self.integers(*pads)], (*x.shape[:axis], x.shape[axis] + before + after, *x.shape[axis + 1 :])
        )
