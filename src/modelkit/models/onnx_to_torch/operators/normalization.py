"""Batch, layer, instance, group, RMS and local response normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates

Tensor = torch.Tensor


@translates("BatchNormalization")
def batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if node.integer("training_mode", 0):
        raise node.refuse("it is in training mode", "Export the model in evaluation mode.")
    return F.batch_norm(x, mean, variance, scale, bias, training=False, eps=node.real("epsilon", 1e-5))


@translates("InstanceNormalization")
def instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.real("epsilon", 1e-5))


@translates("GroupNormalization")
def group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.integer("num_groups", 1)
    if scale.shape[0] != x.shape[1]:  # before opset 21: one scale per group
        scale, bias = (p.repeat_interleave(x.shape[1] // groups) for p in (scale, bias))
    return F.group_norm(x, groups, scale, bias, node.real("epsilon", 1e-5))


@translates("LayerNormalization")
def layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
    axis, eps = node.integer("axis", -1) % x.ndim, node.real("epsilon", 1e-5)
    normalised = list(x.shape[axis:])
    if list(scale.shape) == normalised and (bias is None or list(bias.shape) == normalised):
        y = F.layer_norm(x, normalised, scale, bias, eps)
    else:
        y = F.layer_norm(x, normalised, None, None, eps) * scale
        y = y if bias is None else y + bias
    if not (node.has_output(1) or node.has_output(2)):
        return y
    axes = list(range(axis, x.ndim))
    mean = x.mean(axes, keepdim=True)
    return y, mean, torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + eps)


@translates("RMSNormalization", "SimplifiedLayerNormalization")
def rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor | tuple[Tensor, ...]:
    axis, eps = node.integer("axis", -1) % x.ndim, node.real("epsilon", 1e-5)
    normalised = list(x.shape[axis:])
    y = F.rms_norm(x, normalised, scale, eps) if list(scale.shape) == normalised else F.rms_norm(x, normalised, None, eps) * scale
    if not node.has_output(1):
        return y
    return y, torch.rsqrt(x.square().mean(list(range(axis, x.ndim)), keepdim=True) + eps)


@translates("SkipLayerNormalization", domain="com.microsoft")
def skip_layer_norm(
    node: Node, x: Tensor, skip: Tensor, scale: Tensor, shift: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    total = x + skip if bias is None else x + skip + bias
    y = F.layer_norm(total, [total.shape[-1]], scale, shift, node.real("epsilon", 1e-5))
    return y, None, None, total


@translates("SkipSimplifiedLayerNormalization", domain="com.microsoft")
def skip_rms_norm(node: Node, x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor | None, ...]:
    total = x + skip if bias is None else x + skip + bias
    return F.rms_norm(total, [total.shape[-1]], scale, node.real("epsilon", 1e-5)), None, None, total


@translates("LRN")
def local_response_norm(node: Node, x: Tensor) -> Tensor:
    size, alpha, beta, k = node.integer("size", 1), node.real("alpha", 1e-4), node.real("beta", 0.75), node.real("bias", 1.0)
    before, after = (size - 1) // 2, size // 2
    squares = F.pad(x.square(), [0, 0] * (x.ndim - 2) + [before, after])
    total = torch.stack([squares.narrow(1, i, x.shape[1]) for i in range(size)]).sum(0)
    return x / torch.pow(total * (alpha / size) + k, beta)


@translates("LpNormalization")
def lp_norm(node: Node, x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, node.integer("p", 2), node.integer("axis", -1), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@translates("MeanVarianceNormalization")
def mean_variance_norm(node: Node, x: Tensor) -> Tensor:
    axes = node.integers("axes", [0, 2, 3]) or []
    mean = x.mean(axes, keepdim=True)
    deviation = (x.square().mean(axes, keepdim=True) - mean.square()).sqrt()
    return (x - mean) / (deviation + 1e-9)
