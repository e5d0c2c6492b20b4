"""Attention and rotary position embedding as single operators (opset 23, and ONNX Runtime's own)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates

Tensor = torch.Tensor


def _heads(x: Tensor, count: int) -> Tensor:
    """(batch, length, heads · dim) to (batch, heads, length, dim)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


@translates("Attention")
def attention(
    node: Node,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_k: Tensor | None = None,
    past_v: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    flat = q.ndim == 3
    if flat:
        q = _heads(q, node.integer("q_num_heads", 1))
        k, v = (_heads(x, node.integer("kv_num_heads", 1)) for x in (k, v))
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    if node.has_output(3) or node.real("softcap", 0.0):
        raise node.refuse("with its scores capped or given out")
    present = (k, v)
    groups = q.shape[1] // k.shape[1]
    if groups != 1:
        k, v = (x.repeat_interleave(groups, 1) for x in present)
    scale = node.attributes.get("scale")
    causal = bool(node.integer("is_causal", 0))
    if causal and (mask is not None or past_k is not None):
        allowed = torch.ones((q.shape[2], k.shape[2]), dtype=torch.bool).tril()
        mask = _additive(mask, q.dtype) + _additive(allowed, q.dtype) if mask is not None else allowed
        causal = False
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
    return (y.transpose(1, 2).flatten(2) if flat else y), *present


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))


@translates("MultiHeadAttention", domain="com.microsoft")
def multi_head_attention(
    node: Node,
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    bias: Tensor | None = None,
    padding: Tensor | None = None,
    scores: Tensor | None = None,
    past_k: Tensor | None = None,
    past_v: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    if k is None or v is None or q.ndim != 3 or node.integer("unidirectional", 0):
        raise node.refuse("with packed or causal inputs")
    count = node.integer("num_heads", 1)
    if bias is not None:
        q_bias, k_bias, v_bias = bias.split([q.shape[-1], q.shape[-1], bias.shape[0] - 2 * q.shape[-1]])
        q, k, v = q + q_bias, k + k_bias, v + v_bias
    q, k, v = _heads(q, count), k if k.ndim == 4 else _heads(k, count), v if v.ndim == 4 else _heads(v, count)
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    mask = scores
    if padding is not None:
        if padding.ndim != 2:
            raise node.refuse("with a padding mask that is not (batch, length)")
        kept = _additive((padding != 0)[:, None, None, :], q.dtype)
        mask = kept if mask is None else mask + kept
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=node.attributes.get("scale"))
    return y.transpose(1, 2).flatten(2), k, v


@translates("RotaryEmbedding")
def rotary(node: Node, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    return _rotate(node, x, cos, sin)


@translates("RotaryEmbedding", domain="com.microsoft")
def rotary_microsoft(node: Node, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    if positions.ndim == 1:  # where the sequence starts
        length = x.shape[2] if x.ndim == 4 else x.shape[1]
        positions = (positions + torch.arange(length)).unsqueeze(0).expand(x.shape[0], -1)
    if x.ndim == 3 and not node.integer("num_heads", 0):
        dim = node.integer("rotary_embedding_dim", 0) or 2 * cos.shape[-1]
        node.attributes["num_heads"] = x.shape[-1] // dim
    return _rotate(node, x, cos[positions], sin[positions])


def _rotate(node: Node, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (batch, heads, length, dim) or (batch, length, heads · dim); cos and sin (batch, length, rotated / 2)."""
    flat = x.ndim == 3
    x = _heads(x, node.integer("num_heads", 1)) if flat else x
    rotated: Any = node.integer("rotary_embedding_dim", 0) or x.shape[-1]
    turning, rest = x[..., :rotated], x[..., rotated:]
    cos, sin = cos[:, None, :, : rotated // 2], sin[:, None, :, : rotated // 2]
    interleaved = bool(node.integer("interleaved", 0))
    a, b = (turning[..., 0::2], turning[..., 1::2]) if interleaved else turning.chunk(2, -1)
    real, imaginary = a * cos - b * sin, a * sin + b * cos
    turned = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
    y = turned if rotated == x.shape[-1] else torch.cat([turned, rest], -1)
    return y.transpose(1, 2).flatten(2) if flat else y
