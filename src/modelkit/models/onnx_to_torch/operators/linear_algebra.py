"""Matrix products and linear layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates


@translates("Linear", domain="modelkit")
def linear(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """What `linear_layers` made of a MatMul or Gemm: weight (out, in), or (in, out) if another reader wants it so."""
    return F.linear(x, weight.t() if node.attributes["transposed"] else weight, bias)


@translates("MatMul")
def matmul(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.matmul(a, b)


@translates("Gemm")
def gemm(node: Node, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    left = a.t() if node.integer("transA", 0) else a
    product = torch.matmul(left, b.t() if node.integer("transB", 0) else b)
    product = product if alpha == 1.0 else product * alpha
    if c is None:
        return product
    return product + (c if beta == 1.0 else c * beta)


@translates("FusedMatMul", domain="com.microsoft")
def fused_matmul(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    product = torch.matmul(_turned(node, a, "A"), _turned(node, b, "B"))
    alpha = node.real("alpha", 1.0)
    return product if alpha == 1.0 else product * alpha


def _turned(node: Node, x: torch.Tensor, side: str) -> torch.Tensor:
    if node.integer(f"transBatch{side}", 0):  # the first dimension moves to just before the last
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if node.integer(f"trans{side}", 0) and x.ndim > 1 else x


@translates("Einsum")
def einsum(node: Node, *tensors: torch.Tensor) -> torch.Tensor:
    return torch.einsum(node.text("equation", "").replace(" ", ""), *tensors)
