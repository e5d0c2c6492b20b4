"""Tensors made from a shape: constants, ranges, identity matrices, one-hot codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from ..node import Node
from ..registry import translates
from ..values import Value, dtype_of, scalar_of, to_host, to_tensor, torch_type
from .shape import entries


@translates("ConstantOfShape", host=(0,))
def constant_of_shape(node: Node, target: np.ndarray) -> torch.Tensor:
    value = node.attributes.get("value")
    fill = numpy_helper.to_array(value).reshape(-1) if isinstance(value, onnx.TensorProto) else np.zeros(1, np.float32)
    number = bool(fill[0]) if fill.dtype == bool else fill[0].item() if fill.dtype.kind in "iuf" else float(fill[0])
    return torch.full(entries(target), number, dtype=dtype_of(fill))


@translates("Range", raw=True)
def range_(node: Node, start: Value, limit: Value, delta: Value) -> torch.Tensor:
    dtype = next((value.dtype for value in (start, limit, delta) if not isinstance(value, (list, type(None)))), torch.int64)
    first, last, step = (
        scalar_of(value) if scalar_of(value) is not None else to_host(value).reshape(-1)[0] for value in (start, limit, delta)
    )
    return torch.arange(first, last, step, dtype=dtype)


@translates("EyeLike")
def eye_like(node: Node, x: torch.Tensor) -> torch.Tensor:
    dtype = torch_type(node.integer("dtype", 0)) or x.dtype
    rows = torch.arange(x.shape[0]).unsqueeze(1) + node.integer("k", 0)
    return (rows == torch.arange(x.shape[1]).unsqueeze(0)).to(dtype)


@translates("OneHot", raw=True)
def one_hot(node: Node, indices: Value, depth: Value, values: Value) -> torch.Tensor:
    places, choices, axis = to_tensor(indices).to(torch.int64), to_tensor(values), node.integer("axis", -1)
    count: Any = entries(to_host(depth))[0]
    axis = axis + places.ndim + 1 if axis < 0 else axis
    classes = torch.arange(count).reshape([-1 if d == axis else 1 for d in range(places.ndim + 1)])
    hit = torch.remainder(places, count).unsqueeze(axis) == classes
    inside = ((places >= -count) & (places < count)).unsqueeze(axis)
    return torch.where(hit & inside, choices[1], choices[0])
