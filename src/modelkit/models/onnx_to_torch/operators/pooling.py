"""Max, average and Lp pooling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates
from .convolution import geometry, pad_spatial, window_pads

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MAX_INDICES = {1: F.max_pool1d_with_indices, 2: F.max_pool2d_with_indices, 3: F.max_pool3d_with_indices}
_AVERAGE: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _fits(before: list[Any], after: list[Any], kernel: list[int]) -> bool:
    """Whether torch's pools take this padding: the same on both sides and at most half of the window."""
    return before == after and all(isinstance(pad, int) and 0 <= pad <= k // 2 for pad, k in zip(before, kernel, strict=True))


def _ceil_pads(
    node: Node, sizes: list[Any], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[Any], list[Any]]:
    """As `window_pads`, with what ceil_mode adds after (a window must start inside the input or the padding before it)."""
    before, after = window_pads(node, sizes, kernel, strides, dilations)
    if not node.integer("ceil_mode", 0) or node.text("auto_pad", "NOTSET") != "NOTSET":
        return before, after
    longer = []
    for size, k, stride, dilation, first, last in zip(sizes, kernel, strides, dilations, before, after, strict=True):
        extent = dilation * (k - 1) + 1
        windows = (size + first + last - extent + stride - 1) // stride + 1
        windows = windows - 1 if (windows - 1) * stride >= size + first else windows
        longer.append(torch.sym_max((windows - 1) * stride + extent - size - first, last))
    return before, longer


@translates("MaxPool")
def max_pool(node: Node, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
    kernel = node.integers("kernel_shape") or []
    spatial = len(kernel)
    strides, dilations = geometry(node, spatial)
    sizes = list(x.shape[2:])
    before, after = window_pads(node, sizes, kernel, strides, dilations)
    if node.has_output(1) and (node.integer("storage_order", 0) or not _fits(before, after, kernel)):
        raise node.refuse("indices of unequal padding or column-major order")
    values = x if x.dtype.is_floating_point else x.to(torch.float32)
    ceil = bool(node.integer("ceil_mode", 0)) and node.text("auto_pad", "NOTSET") == "NOTSET"
    if node.has_output(1):
        pooled, places = _MAX_INDICES[spatial](values, kernel, strides, before, dilations, ceil)
        size = torch.prod(torch.stack([torch.scalar_tensor(s, dtype=torch.int64) for s in sizes]))
        planes = torch.arange(x.shape[0] * x.shape[1]).reshape(x.shape[0], x.shape[1], *[1] * spatial)
        return pooled.to(x.dtype), places + planes * size  # torch counts within a channel, ONNX in the whole tensor
    if _fits(before, after, kernel):
        return _MAX[spatial](values, kernel, strides, before, dilations, ceil).to(x.dtype)
    before, after = _ceil_pads(node, sizes, kernel, strides, dilations)
    return _MAX[spatial](pad_spatial(values, before, after, float("-inf")), kernel, strides, 0, dilations).to(x.dtype)


@translates("AveragePool")
def average_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    kernel = node.integers("kernel_shape") or []
    spatial = len(kernel)
    strides, dilations = geometry(node, spatial)
    before, after = window_pads(node, list(x.shape[2:]), kernel, strides, dilations)
    count_pad = bool(node.integer("count_include_pad", 0))
    ceil = bool(node.integer("ceil_mode", 0)) and node.text("auto_pad", "NOTSET") == "NOTSET"
    if _fits(before, after, kernel) and all(dilation == 1 for dilation in dilations):
        return _AVERAGE[spatial](x, kernel, strides, before, ceil, count_pad)  # type: ignore[no-any-return]
    # Sum the window and divide by how many of its places count: those of the input, with count_include_pad also the padding.
    counted = torch.ones_like(x[:1, :1])
    if count_pad:
        counted = pad_spatial(counted, before, after, 1.0)
    longer_before, longer_after = _ceil_pads(node, list(x.shape[2:]), kernel, strides, dilations)
    if count_pad:
        counted = pad_spatial(counted, [0] * spatial, [a - b for a, b in zip(longer_after, after, strict=True)])
    else:
        counted = pad_spatial(counted, longer_before, longer_after)
    sums = _window_sums(pad_spatial(x, longer_before, longer_after), kernel, strides, dilations)
    return sums / _window_sums(counted, kernel, strides, dilations)


def _window_sums(x: torch.Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> torch.Tensor:
    """Sums of windows (N, C, *spatial) by a convolution with ones, channel by channel."""
    planes = x.reshape(x.shape[0] * x.shape[1], 1, *x.shape[2:])
    sums = _CONV[len(kernel)](planes, torch.ones((1, 1, *kernel), dtype=x.dtype), None, strides, 0, dilations)
    return sums.reshape(x.shape[0], x.shape[1], *sums.shape[2:])


@translates("LpPool")
def lp_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    kernel, p = node.integers("kernel_shape") or [], node.integer("p", 2)
    strides, dilations = geometry(node, len(kernel))
    before, after = _ceil_pads(node, list(x.shape[2:]), kernel, strides, dilations)
    return _window_sums(pad_spatial(x.abs() ** p, before, after), kernel, strides, dilations) ** (1.0 / p)


@translates("GlobalAveragePool")
def global_average_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x.mean(list(range(2, x.ndim)), keepdim=True)


@translates("GlobalMaxPool")
def global_max_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x.amax(list(range(2, x.ndim)), keepdim=True)


@translates("GlobalLpPool")
def global_lp_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(x, node.integer("p", 2), list(range(2, x.ndim)), keepdim=True)
