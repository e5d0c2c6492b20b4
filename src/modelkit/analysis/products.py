"""Linear layers and convolutions as matrix products: y = W x for every output position, one product a group.

The inputs of an output are in the order (*kernel, channel), the order in which sparse kernels group them for N:M.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import ceil, prod
from typing import Any

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.graph import Node, Shape


def is_one_product(layer: Node) -> bool:
    """Whether all outputs of a layer read the same inputs, padded alike on both sides: PyTorch's integer layers are such."""
    return layer.kind == "linear" or is_one_window(layer.attributes)


def is_one_window(attributes: Mapping[str, Any]) -> bool:
    """The same of a convolution with these attributes."""
    even = all(before == after for before, after in attributes["padding"])
    return attributes.get("groups", 1) == 1 and not attributes.get("transposed") and even


def matrix(layer: Node, weight: Array) -> Array:
    """The weight as (groups, outputs, inputs). A transposed convolution multiplies each input position with (kernel · out,
    in)."""
    if layer.kind == "linear":
        return weight[None]
    groups = _groups(layer)
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    if layer.attributes.get("transposed"):
        return np.moveaxis(split, 1, -1).reshape(groups, -1, split.shape[1])
    return np.moveaxis(split, 2, -1).reshape(groups, split.shape[1], -1)


def weight_of(layer: Node, matrices: Array, shape: Shape) -> Array:
    """The inverse of `matrix`."""
    if layer.kind == "linear":
        return matrices.reshape(shape)
    groups = _groups(layer)
    first, second, *kernel = shape
    if layer.attributes.get("transposed"):
        return np.moveaxis(matrices.reshape(groups, second, *kernel, first // groups), -1, 1).reshape(shape)
    return np.moveaxis(matrices.reshape(groups, first // groups, *kernel, second), -1, 2).reshape(shape)


def inputs(layer: Node, x: Array, limit: int) -> Array:
    """The rows (groups, n, inputs) that the layer multiplies when it reads `x`. Positions within a sample are much alike: of a
    convolution's at most about `limit` are taken, evenly spread."""
    if layer.kind == "linear":
        return x.reshape(1, -1, x.shape[-1])
    groups = _groups(layer)
    if layer.attributes.get("transposed"):
        kernel: tuple[int, ...] = (1,) * (x.ndim - 2)
        view = patches(x, kernel, kernel, kernel)
    else:
        kernel = layer.parameters["weight"].shape[2:]
        padding = layer.attributes["padding"]
        padded = np.pad(x, ((0, 0), (0, 0), *padding)) if any(any(side) for side in padding) else x
        view = patches(padded, kernel, layer.attributes["stride"], layer.attributes["dilation"])
    space = view.ndim // 2 - 1
    for axis in range(2, 2 + space):
        surplus = view.shape[0] * prod(view.shape[2 : 2 + space]) / limit
        step = min(view.shape[axis], ceil(max(surplus, 1.0) ** (1 / (2 + space - axis))))
        view = view[(slice(None),) * axis + (slice(step // 2, None, step),)]
    # (n, channels, *positions, *kernel) → (groups, n, *positions, *kernel, channels)
    split = view.reshape(view.shape[0], groups, view.shape[1] // groups, *view.shape[2:])
    rows = np.moveaxis(np.moveaxis(split, 1, 0), 2, -1)
    return rows.reshape(groups, -1, prod(kernel) * split.shape[2])


def input_key(layer: Node) -> Hashable:
    """Layers that read the same edge and have the same key multiply the same rows."""
    if layer.kind == "linear":
        return "linear"
    attributes = layer.attributes
    if attributes.get("transposed"):
        return "transposed", _groups(layer)
    kernel = layer.parameters["weight"].shape[2:]
    return "conv", _groups(layer), kernel, attributes["stride"], attributes["dilation"], attributes["padding"]


def _groups(layer: Node) -> int:
    return int(layer.attributes.get("groups", 1))


def convolved(space: Shape, kernel: Shape, attributes: Mapping[str, Any]) -> Shape:
    """The sizes in space of what a convolution with this kernel makes from an input of these sizes."""
    given = (attributes[name] for name in ("stride", "padding", "dilation"))
    axes = zip(space, kernel, *given, strict=True)
    return tuple((size + sum(pads) - dilation * (k - 1) - 1) // stride + 1 for size, k, stride, pads, dilation in axes)


def patches(x: Array, kernel: Shape, stride: Any, dilation: Any) -> Array:
    """A view (n, channels, *positions, *kernel)."""
    space = len(kernel)
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=tuple(range(2, 2 + space)))
    steps = tuple(slice(None, None, n) for n in stride)
    return view[(slice(None), slice(None), *steps, *(slice(None, None, d) for d in dilation))]
