"""What an odd model is, and the few words its builders are written in."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

Feeds = dict[str, NDArray[Any]]
Case = tuple[onnx.ModelProto, Feeds]
Builder = Callable[[], Case]
Dimension = int | str | None

ODD: dict[str, Builder] = {}
"""Builders by name: each returns a valid model and the inputs to run it with."""

CANNOT_RUN: dict[str, str] = {}
"""Those of ODD that onnxruntime's CPU provider cannot run (it may crash the process), with the reason."""

CHECKER_REFUSES: dict[str, str] = {}
"""Those of ODD that onnxruntime runs, but the full ONNX checker does not accept, with the reason."""


def odd(builder: Builder) -> Builder:
    """Enter a builder under its function's name."""
    ODD[builder.__name__] = builder
    return builder


def flagged(flag: dict[str, str], reason: str) -> Callable[[Builder], Builder]:
    """Enter a builder with an exception: CANNOT_RUN or CHECKER_REFUSES."""

    def enter(builder: Builder) -> Builder:
        flag[builder.__name__] = reason
        return odd(builder)

    return enter


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write the model, and its external tensors where it names them."""
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            (path.parent / ExternalDataInfo(tensor).location).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def random(**shapes: Sequence[int]) -> Feeds:
    """Normal float32 arrays of the given shapes, the same for the same names."""
    return {
        name: np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.5, tuple(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def floats(**shapes: Sequence[Dimension]) -> list[onnx.ValueInfoProto]:
    """float32 inputs or outputs."""
    return typed(TensorProto.FLOAT, **shapes)


def typed(element: int, **shapes: Sequence[Dimension] | None) -> list[onnx.ValueInfoProto]:
    """Inputs or outputs of an element type; None stands for an unknown rank."""
    return [helper.make_tensor_value_info(name, element, shape) for name, shape in shapes.items()]


def model(
    nodes: Iterable[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
    weights: Mapping[str, Any] | Sequence[onnx.TensorProto] = (),
    opset: int = 17,
    ir_version: int = 8,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of the given parts; `domains` are the operator sets it imports besides the standard one."""
    graph = helper.make_graph(list(nodes), "odd", list(inputs), list(outputs), tensors(weights))
    imports = [helper.make_opsetid(domain, version) for domain, version in {"": opset, **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=list(functions))


def tensors(weights: Mapping[str, Any] | Sequence[onnx.TensorProto]) -> list[onnx.TensorProto]:
    if isinstance(weights, Mapping):
        return [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    return list(weights)
