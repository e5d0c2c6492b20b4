"""Reductions over axes, given as an attribute (old opsets) or an input (new ones)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..node import Node
from ..registry import translates
from ..values import Value, host, to_tensor

Reducer = Callable[[torch.Tensor, list[int], bool], torch.Tensor]


def _product(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _sum(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    if x.dtype.is_floating_point:
        return x.mean(axes, keepdim=keep)
    return x.to(torch.float64).mean(axes, keepdim=keep).to(x.dtype)


_REDUCERS: dict[str, Reducer] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: _sum(x * x, axes, keep).sqrt().to(x.dtype),
    "ReduceLogSum": lambda x, axes, keep: _sum(x, axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
}


@translates(*_REDUCERS, host=(1,))
def reduce(node: Node, x: torch.Tensor, axes: np.ndarray | None = None) -> torch.Tensor:
    chosen = node.integers("axes", []) if axes is None else [int(axis) for axis in axes]
    if not chosen:
        if node.integer("noop_with_empty_axes", 0):
            return x
        chosen = list(range(x.ndim))
    return _REDUCERS[node.operator](x, chosen, bool(node.integer("keepdims", 1))) if x.ndim else x


@translates("ArgMax", "ArgMin")
def arg_extremum(node: Node, x: torch.Tensor) -> torch.Tensor:
    axis, keep = node.integer("axis", 0), bool(node.integer("keepdims", 1))
    find = torch.argmax if node.operator == "ArgMax" else torch.argmin
    if node.integer("select_last_index", 0):
        return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=keep)
    return find(x, axis, keepdim=keep)


@translates("CumSum", host=(1,))
def cumulative_sum(node: Node, x: torch.Tensor, axis: np.ndarray) -> torch.Tensor:
    d = int(axis.reshape(-1)[0])
    reverse = node.integer("reverse", 0)
    x = x.flip(d) if reverse else x
    y = x.cumsum(d, dtype=x.dtype)
    y = y - x if node.integer("exclusive", 0) else y
    return y.flip(d) if reverse else y


@translates("SegmentReduce", domain="modelkit", raw=True)
def segment_reduce(node: Node, table: Value, offsets: Value) -> tuple[Value, ...]:
    """What `segment_loops` made of a Loop: reduce rows offsets[i] … offsets[i + 1] of a table, zeros for empty segments."""
    rows, bounds = to_tensor(table), to_tensor(offsets).to(torch.int64)
    segments = bounds.shape[0] - 1
    segment = torch.searchsorted(bounds[1:].contiguous(), torch.arange(rows.shape[0]), right=True)
    places = segment.unsqueeze(1).expand(-1, rows.shape[1])
    zeros = torch.zeros((segments, rows.shape[1]), dtype=rows.dtype)
    return [zeros.scatter_reduce(0, places, rows, node.attributes["reduce"], include_self=False)], host(segments)
