"""What is seen of a layer's output, from both formats."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from modelkit.analysis.fit_points import UNBOUNDED, fit_point
from modelkit.models.onnx.model import OnnxModel
from modelkit.models.torch.model import TorchModel

RELU = (0.0, math.inf)


def onnx_model(*readers):
    """x → MatMul → every one of `readers`: an operator with the constants that it reads besides, and what it computes."""
    rng = np.random.default_rng(0)
    tensors = [numpy_helper.from_array(rng.standard_normal((4, 4)).astype(np.float32), "w")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    for index, (op, *bounds) in enumerate(readers):
        names = ["y"]
        for bound in bounds:
            if isinstance(bound, str | None):
                names.append(bound or "")
                continue
            names.append(f"b{len(tensors)}")
            tensors.append(numpy_helper.from_array(np.array(bound, np.float32), names[-1]))
        nodes.append(helper.make_node(op, names, [f"z{index}"]))
    value = helper.make_tensor_value_info
    outputs = [value(f"z{index}", TensorProto.FLOAT, ["n", 4]) for index in range(len(readers))]
    given = [value("x", TensorProto.FLOAT, ["n", 4]), value("low", TensorProto.FLOAT, [])]
    graph = helper.make_graph(nodes, "clips", given, outputs, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(proto)
    return OnnxModel.from_proto(proto, Path("clips.onnx"), Path("."))


def torch_model(*readers):
    class Clips(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x, low):
            y = self.layer(x)
            return tuple(reader(y, low) for reader in readers)

    exported = torch.export.export(Clips().eval(), (torch.zeros(2, 4), torch.zeros(())))
    return TorchModel.of(exported, Path("clips.pt2"))


ONNX = [
    (RELU, [("Relu",)]),
    ((0.0, 6.0), [("Clip", 0, 6)]),
    ((-1.0, 1.0), [("Clip", -1, 1)]),
    (RELU, [("Clip", 0)]),
    ((-math.inf, 3.0), [("Clip", None, 3)]),
    ((0.0, 6.0), [("Clip", 0, 6), ("Clip", 1, 5)]),
    (RELU, [("Clip", 0, 6), ("Relu",)]),
    ((-math.inf, 6.0), [("Min", 6)]),
    ((1.0, math.inf), [("Max", 1)]),
    (UNBOUNDED, [("Clip", 0, 6), ("Sigmoid",)]),
    (UNBOUNDED, [("Clip", "low", 6)]),
    (UNBOUNDED, [("Min", "low")]),
    (UNBOUNDED, [("Min", [1, 2, 3, 4])]),
    (UNBOUNDED, [("Sigmoid",)]),
]
TORCH = [
    (RELU, [lambda y, low: F.relu(y)]),
    ((0.0, 6.0), [lambda y, low: F.relu6(y)]),
    ((0.0, 6.0), [lambda y, low: F.relu6(y, inplace=True)]),
    ((-1.0, 1.0), [lambda y, low: F.hardtanh(y)]),
    ((-2.0, 3.0), [lambda y, low: F.hardtanh(y, -2, 3)]),
    (RELU, [lambda y, low: y.clamp(0)]),
    (RELU, [lambda y, low: torch.clamp_min(y, 0)]),
    ((-math.inf, 3.0), [lambda y, low: torch.clamp_max(y, 3)]),
    ((-math.inf, 3.0), [lambda y, low: y.clamp(max=3)]),
    ((0.0, 5.0), [lambda y, low: y.clip(0, 5)]),
    (RELU, [lambda y, low: F.threshold(y, 0, 0)]),
    ((0.0, 6.0), [lambda y, low: F.relu6(y), lambda y, low: y.clamp(1, 5)]),
    (UNBOUNDED, [lambda y, low: F.relu6(y), lambda y, low: y.sigmoid()]),
    (UNBOUNDED, [lambda y, low: F.threshold(y, 0.5, 0)]),
    (UNBOUNDED, [lambda y, low: torch.clamp(y, low)]),
    (UNBOUNDED, [lambda y, low: torch.clamp(y, torch.tensor([0.0, 1.0, 2.0, 3.0]))]),
]


@pytest.mark.parametrize(
    ("make", "expected", "readers"), [(onnx_model, *case) for case in ONNX] + [(torch_model, *case) for case in TORCH]
)
def test_bounds(make, expected, readers):
    model = make(*readers)
    (layer,) = model.graph.layers()
    point = fit_point(model.graph, layer)
    assert point.edge == layer.outputs[0] and point.offset is None
    assert point.seen == expected


def test_one_clip_behind_the_other_narrows_what_is_seen():
    """Some exporters write ReLU6 as Relu and Min."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y"))
    tensors = [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"), numpy_helper.from_array(np.float32(6), "six")]
    ops = [("MatMul", ["x", "w"], "a"), ("Relu", ["a"], "b"), ("Min", ["six", "b"], "c"), ("Sigmoid", ["c"], "y")]
    nodes = [helper.make_node(op, given, [made]) for op, given, made in ops]
    graph = helper.make_graph(nodes, "chain", [x], [y], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = OnnxModel.from_proto(proto, Path("chain.onnx"), Path("."))
    (layer,) = model.graph.layers()
    assert fit_point(model.graph, layer).seen == (0.0, 6.0)


def test_all_is_seen_of_an_output():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x):
            y = self.layer(x)
            return y, F.relu(y)

    model = TorchModel.of(torch.export.export(Net().eval(), (torch.zeros(2, 4),)), Path("net.pt2"))
    (layer,) = model.graph.layers()
    assert fit_point(model.graph, layer).seen == UNBOUNDED


class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, x):
        y = self.first(x)
        return F.relu6(y + self.second(F.relu(y)))


def test_the_last_side_of_a_sum_is_fitted_behind_it():
    model = TorchModel.of(torch.export.export(Residual().eval(), (torch.zeros(2, 4),)), Path("net.pt2"))
    first, second = model.graph.layers()
    add = next(node for node in model.graph.nodes if node.function == "add")
    point = fit_point(model.graph, second)
    assert (point.edge, point.offset, point.seen) == (add.outputs[0], first.outputs[0], (0.0, 6.0))
    assert fit_point(model.graph, first).seen == UNBOUNDED  # also read by the sum
