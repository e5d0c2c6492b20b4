"""Convolutions, plain and transposed, of one to three spatial dimensions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_ACTIVATIONS = {"": lambda y: y, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh}


def window_pads(
    node: Node, sizes: list[Any], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[Any], list[Any]]:
    """Padding before and after each spatial dimension, from `pads` or `auto_pad`; `sizes` may be symbolic."""
    spatial = len(kernel)
    mode = node.text("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * spatial, [0] * spatial
    if mode == "NOTSET":
        pads = node.integers("pads") or [0] * (2 * spatial)
        return list(pads[:spatial]), list(pads[spatial:])
    before, after = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        extent = dilation * (k - 1) + 1
        total = extent - 1 if stride == 1 else torch.sym_max(((size + stride - 1) // stride - 1) * stride + extent - size, 0)
        small = total // 2
        before.append(small if mode == "SAME_UPPER" else total - small)
        after.append(total - small if mode == "SAME_UPPER" else small)
    return before, after


def pad_spatial(x: torch.Tensor, before: list[Any], after: list[Any], fill: float = 0.0) -> torch.Tensor:
    """Constant padding of the last dimensions."""
    flat = [pad for pair in zip(reversed(before), reversed(after), strict=True) for pad in pair]
    return F.pad(x, flat, value=fill)


def geometry(node: Node, spatial: int) -> tuple[list[int], list[int]]:
    """Strides and dilations."""
    return node.integers("strides") or [1] * spatial, node.integers("dilations") or [1] * spatial


@translates("Conv")
def conv(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    spatial = weight.ndim - 2
    if spatial not in _CONV:
        raise node.refuse(f"a convolution over {spatial} dimensions")
    strides, dilations = geometry(node, spatial)
    before, after = window_pads(node, list(x.shape[2:]), list(weight.shape[2:]), strides, dilations)
    if before != after or not all(isinstance(pad, int) and pad >= 0 for pad in before):
        x, before = pad_spatial(x, before, after), [0] * spatial
    return _CONV[spatial](x, weight, bias, strides, before, dilations, node.integer("group", 1))


@translates("ConvTranspose")
def conv_transpose(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    spatial = weight.ndim - 2
    if spatial not in _TRANSPOSED:
        raise node.refuse(f"a transposed convolution over {spatial} dimensions")
    strides, dilations = geometry(node, spatial)
    extra = node.integers("output_padding") or [0] * spatial
    before, after = _removed(node, list(x.shape[2:]), list(weight.shape[2:]), strides, dilations, extra)
    group = node.integer("group", 1)
    if before == after and all(isinstance(pad, int) and pad >= 0 for pad in before):
        return _TRANSPOSED[spatial](x, weight, bias, strides, before, extra, group, dilations)
    # Torch removes the same number on both sides only, so compute all of it and cut (or, if negative, add).
    y = _TRANSPOSED[spatial](x, weight, bias, strides, 0, 0, group, dilations)
    return pad_spatial(y, [-pad for pad in before], [e - pad for e, pad in zip(extra, after, strict=True)])


def _removed(
    node: Node, sizes: list[Any], kernel: list[int], strides: list[int], dilations: list[int], extra: list[int]
) -> tuple[list[Any], list[Any]]:
    """How much of the full result is cut off before and after each dimension."""
    mode, wanted = node.text("auto_pad", "NOTSET"), node.integers("output_shape")
    if wanted is None and not mode.startswith("SAME"):
        return window_pads(node, sizes, kernel, strides, dilations)
    wanted = wanted[-len(sizes) :] if wanted else [size * stride for size, stride in zip(sizes, strides, strict=True)]
    before, after = [], []
    for size, k, stride, dilation, more, out in zip(sizes, kernel, strides, dilations, extra, wanted, strict=True):
        total = stride * (size - 1) + more + dilation * (k - 1) + 1 - out
        first = total // 2 if mode == "SAME_UPPER" else total - total // 2
        before.append(first)
        after.append(total - first)
    return before, after


@translates("FusedConv", domain="com.microsoft")
def fused_conv(
    node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, added: torch.Tensor | None = None
) -> torch.Tensor:
    """ONNX Runtime's convolution, plus a tensor, through an activation."""
    y = conv(node, x, weight, bias)
    y = y if added is None else y + added
    name, numbers = node.text("activation", ""), list(node.attributes.get("activation_params", []))
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name](y)
    if name == "LeakyRelu":
        return F.leaky_relu(y, *numbers)
    if name == "Clip":
        return torch.clamp(y, *numbers)
    if name == "HardSigmoid":
        return torch.clamp(y * numbers[0] + numbers[1], 0.0, 1.0)
    raise node.refuse(f"with the activation {name}")
