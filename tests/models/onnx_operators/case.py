"""One small ONNX model for each use of an operator: name, inputs, attributes. Constants are wrapped in `C`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

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
        """The model, its first input's leading dimension (and equal ones) open, and arrays for its inputs."""
        names, arrays, values, constants, size = [], {}, [], [], None
        for position, given in enumerate(self.inputs):
            names.append("" if given is None else f"x{position}")
            if isinstance(given, C):
                constants.append(numpy_helper.from_array(given.array(), names[-1]))
            elif given is not None:
                shape: list[Any] = list(given.shape)
                size = size or (shape[0] if shape else None)
                if shape and shape[0] == size and not self.fixed:
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


def u8(*shape: int) -> np.ndarray:
    """Random bytes."""
    return _random.integers(0, 256, shape).astype(np.uint8)


def s8(*shape: int) -> np.ndarray:
    """Seven bits: ONNX Runtime's eight-bit products saturate on CPUs without VNNI."""
    return _random.integers(-63, 64, shape).astype(np.int8)
