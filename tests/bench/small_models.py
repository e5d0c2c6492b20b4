"""Tiny ONNX models, and an opened model as far as measuring looks at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelkit.bench.measurement import Subject
from modelkit.core.graph import Edge, Graph, Input, Node
from modelkit.core.model import Provenance


@dataclass
class Opened:
    """What modelkit.models.opening gives, without the weights."""

    path: Path
    graph: Graph
    format: str = "onnx"
    family: str = "onnx"
    provenance: Provenance = field(default_factory=Provenance)


def linear_onnx(path: Path, width: int = 16, classes: int = 4, batch: int | str = "batch", seed: int = 0) -> Path:
    """y = x W + b with x (batch, width); a string leaves the batch free."""
    rng = np.random.default_rng(seed)
    weight = numpy_helper.from_array(rng.standard_normal((width, classes)).astype(np.float32), "weight")
    bias = numpy_helper.from_array(rng.standard_normal(classes).astype(np.float32), "bias")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, classes])],
        [weight, bias],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def deep_onnx(path: Path, layers: int, width: int = 256) -> Path:
    """`layers` products with a (width, width) matrix, one after the other: twice the layers take twice the time."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((width, width)).astype(np.float32) / 16, f"w{i}") for i in range(layers)
    ]
    names = ["x", *(f"h{i}" for i in range(1, layers)), "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)],
        "deep",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def subject(path: Path, name: str | None = None, **changes: Any) -> Subject:
    """The ONNX model at `path`, which takes x and gives y, both (batch, …)."""
    proto = onnx.load(path)
    shapes = {}
    for value in (proto.graph.input[0], proto.graph.output[0]):
        shapes[value.name] = tuple(dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim)
    graph = Graph(
        (Node("fc", "linear", "Gemm", ("x",), ("y",)),),
        {name: Edge(name, tuple(d if isinstance(d, int) else 1 for d in shape), "float32") for name, shape in shapes.items()},
        (Input("x", "float32", shapes["x"]),),
        ("y",),
    )
    return Subject(name or path.name, Opened(path, graph, **changes))  # type: ignore[arg-type]
