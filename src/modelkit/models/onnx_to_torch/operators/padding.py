"""Padding in its four modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates
from ..values import Value, scalar_of, to_host, to_tensor


@translates("Pad", raw=True)
def pad(node: Node, x: Value, pads: Value = None, fill: Value = None, axes: Value = None) -> torch.Tensor:
    tensor = to_tensor(x)
    before, after = _amounts(tensor.ndim, to_host(pads), None if axes is None else to_host(axes))
    mode = node.text("mode", "constant")
    if mode == "constant":
        return _constant(tensor, before, after, fill)
    padded = [d for d in range(tensor.ndim) if not (_is_zero(before[d]) and _is_zero(after[d]))]
    spatial = list(range(2, tensor.ndim))
    if mode == "reflect" and 3 <= tensor.ndim <= 5 and set(padded) <= set(spatial) and tensor.is_floating_point():
        if all(isinstance(amount, int) and amount >= 0 for amount in (*before, *after)):
            return F.pad(tensor, [amount for d in reversed(spatial) for amount in (before[d], after[d])], mode="reflect")
    for d in padded:
        tensor = tensor.index_select(d, _source(mode, tensor.shape[d], before[d], after[d]))
    return tensor


def _is_zero(amount: Any) -> bool:
    return isinstance(amount, int) and amount == 0


def _amounts(rank: int, pads: np.ndarray, axes: np.ndarray | None) -> tuple[list[Any], list[Any]]:
    """Padding before and after every dimension."""
    chosen = [int(axis) % rank for axis in axes] if axes is not None else list(range(rank))
    before, after = [0] * rank, [0] * rank
    amounts = pads.tolist()
    for position, axis in enumerate(chosen):
        before[axis], after[axis] = amounts[position], amounts[position + len(chosen)]
    return before, after


def _constant(x: torch.Tensor, before: list[Any], after: list[Any], fill: Value) -> torch.Tensor:
    value = 0 if fill is None else scalar_of(fill)
    if value is None:  # a computed fill: pad with zeros, then choose by where the padding is
        inside = _constant(torch.ones_like(x, dtype=torch.bool), before, after, None)
        return torch.where(inside, _constant(x, before, after, None), to_tensor(fill).reshape(()))
    flat = [amount for d in reversed(range(x.ndim)) for amount in (before[d], after[d])]
    while len(flat) > 2 and _is_zero(flat[-1]) and _is_zero(flat[-2]):
        flat = flat[:-2]
    return F.pad(x, flat, value=value)


def _source(mode: str, size: Any, before: Any, after: Any) -> torch.Tensor:
    """For each place of the padded dimension, the place in the input it takes its value from."""
    place = torch.arange(-before, size + after)
    if mode == "edge":
        return place.clamp(0, size - 1)
    if mode == "wrap":
        return torch.remainder(place, size)
    return (size - 1) - ((size - 1) - place.abs()).abs()
