"""Activation functions and softmax."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates
from ..values import Value, scalar_of, to_tensor


@translates("Relu")
def relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.relu(x)


@translates("LeakyRelu")
def leaky_relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, node.real("alpha", 0.01))


@translates("Elu")
def elu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.elu(x, node.real("alpha", 1.0))


@translates("Celu")
def celu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.celu(x, node.real("alpha", 1.0))


@translates("Selu")
def selu(node: Node, x: torch.Tensor) -> torch.Tensor:
    alpha, gamma = node.real("alpha", 1.6732631921768188), node.real("gamma", 1.0507010221481323)
    return torch.where(x > 0, x, alpha * (torch.exp(x) - 1)) * gamma


@translates("PRelu")
def prelu(node: Node, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    if x.ndim > 1 and slope.ndim == x.ndim - 1 and slope.numel() == slope.shape[0] == x.shape[1]:
        return F.prelu(x, slope.flatten())  # one slope per channel, torch's own form
    return torch.where(x < 0, x * slope, x)


@translates("HardSigmoid")
def hard_sigmoid(node: Node, x: torch.Tensor) -> torch.Tensor:
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@translates("HardSwish")
def hard_swish(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.hardswish(x)


@translates("Softplus")
def softplus(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.softplus(x)


@translates("Softsign")
def softsign(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.softsign(x)


@translates("Mish")
def mish(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.mish(x)


@translates("Swish")
def swish(node: Node, x: torch.Tensor) -> torch.Tensor:
    alpha = node.real("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(x * alpha)


@translates("QuickGelu", domain="com.microsoft")
def quick_gelu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x * node.real("alpha", 1.702))


@translates("ThresholdedRelu")
def thresholded_relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.threshold(x, node.real("alpha", 1.0), 0.0)


@translates("Shrink")
def shrink(node: Node, x: torch.Tensor) -> torch.Tensor:
    bound, bias = node.real("lambd", 0.5), node.real("bias", 0.0)
    return torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, torch.zeros_like(x)))


@translates("Gelu")
@translates("Gelu", domain="com.microsoft")
def gelu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate=node.text("approximate", "none"))


@translates("BiasGelu", domain="com.microsoft")
def bias_gelu(node: Node, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.gelu(x + bias)


@translates("FastGelu", domain="com.microsoft")
def fast_gelu(node: Node, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@translates("Softmax")
def softmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, node.integer("axis", -1))


@translates("LogSoftmax")
def log_softmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(x, node.integer("axis", -1))


@translates("Hardmax")
def hardmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    axis = node.integer("axis", -1)
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


@translates("Clip", raw=True)
def clip(node: Node, x: Value, low: Value = None, high: Value = None) -> torch.Tensor:
    tensor = to_tensor(x)
    lowest: Any = low if low is None or scalar_of(low) is None else scalar_of(low)
    highest: Any = high if high is None or scalar_of(high) is None else scalar_of(high)
    if lowest is None and highest is None:
        return tensor
    if isinstance(lowest, torch.Tensor) or isinstance(highest, torch.Tensor):  # a computed bound
        tensor = tensor if low is None else torch.maximum(tensor, to_tensor(low))
        return tensor if high is None else torch.minimum(tensor, to_tensor(high))
    return torch.clamp(tensor, lowest, highest)
