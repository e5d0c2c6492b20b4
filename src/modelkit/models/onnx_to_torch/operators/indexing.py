"""Gathering and scattering by computed indices, sorting, finding."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates
from ..values import Host, Value, to_host, to_tensor
from .shape import entries

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _wrapped(indices: torch.Tensor, size: Any) -> torch.Tensor:
    """Negative indices count from the end."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


@translates("Gather", raw=True)
def gather(node: Node, data: Value, indices: Value) -> torch.Tensor:
    x, axis = to_tensor(data), node.integer("axis", 0)
    axis = axis % x.ndim
    if isinstance(indices, Host) and indices.array.ndim == 0:
        return x.select(axis, entries(indices.array)[0])
    if isinstance(indices, Host) and not indices.is_symbolic and indices.tensor is None:
        return x.index_select(axis, torch.tensor(entries(indices.array))).reshape(
            *x.shape[:axis], *indices.array.shape, *x.shape[axis + 1 :]
        )
    places = to_tensor(indices)
    if isinstance(data, Host) and x.ndim == 2 and axis == 0 and x.is_floating_point():
        return F.embedding(places, x)  # a table: indices of one are never negative
    selection: list[Any] = [slice(None)] * axis + [places.to(torch.int64)]
    result: torch.Tensor = x[tuple(selection)]
    return result


@translates("GatherElements")
def gather_elements(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = node.integer("axis", 0)
    return torch.gather(x, axis, _wrapped(indices, x.shape[axis]))


def _batches(x: torch.Tensor, count: int, rank: int) -> list[torch.Tensor]:
    """For each leading batch dimension its own index, shaped to broadcast with indices of `rank` dimensions."""
    return [torch.arange(x.shape[d]).reshape([-1 if i == d else 1 for i in range(rank)]) for d in range(count)]


@translates("GatherND")
def gather_nd(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    batch = node.integer("batch_dims", 0)
    places = indices.to(torch.int64).unbind(-1)
    return x[(*_batches(x, batch, indices.ndim - 1), *places)]


@translates("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    axis, reduction = node.integer("axis", 0), node.text("reduction", "none")
    places = _wrapped(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])


@translates("ScatterND")
def scatter_nd(node: Node, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    places, reduction = indices.to(torch.int64).unbind(-1), node.text("reduction", "none")
    if reduction in ("none", "add"):
        return x.index_put(places, updates, accumulate=reduction == "add")
    depth = len(places)
    flat: Any = 0
    for d, place in enumerate(places):
        flat = flat * x.shape[d] + _wrapped(place, x.shape[d])
    rows = x.flatten(0, depth - 1)
    inner = rows.shape[1:]
    spread = flat.reshape(-1, *[1] * len(inner)).expand(-1, *inner)
    return rows.scatter_reduce(0, spread, updates.reshape(-1, *inner), _REDUCTIONS[reduction]).reshape(x.shape)


@translates("TensorScatter")
def tensor_scatter(node: Node, cache: torch.Tensor, update: torch.Tensor, start: torch.Tensor | None = None) -> torch.Tensor:
    axis = node.integer("axis", -2) % cache.ndim
    first = torch.zeros(cache.shape[0], dtype=torch.int64) if start is None else start
    place = first.unsqueeze(1) + torch.arange(update.shape[axis]).unsqueeze(0)
    if node.text("mode", "linear") == "circular":
        place = torch.remainder(place, cache.shape[axis])
    shape = [-1 if d in (0, axis) else 1 for d in range(cache.ndim)]
    shape[0], shape[axis] = place.shape[0], place.shape[1]
    return cache.scatter(axis, place.reshape(shape).expand(update.shape), update)


@translates("TopK", raw=True)
def top_k(node: Node, data: Value, k: Value) -> tuple[torch.Tensor, ...]:
    x = to_tensor(data)
    count = entries(to_host(k))[0]
    values, places = torch.topk(
        x, count, node.integer("axis", -1), bool(node.integer("largest", 1)), bool(node.integer("sorted", 1))
    )
    return values, places


@translates("NonZero")
def non_zero(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.nonzero(x).t()


@translates("Compress")
def compress(node: Node, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    x = x if "axis" in node.attributes else x.flatten()
    return x.index_select(node.integer("axis", 0), torch.nonzero(condition).flatten())


@translates("Unique")
def unique(node: Node, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if not node.integer("sorted", 1) or node.has_output(1):
        raise node.refuse("the places of first occurrences, or unsorted values")
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=node.attributes.get("axis"))
    return values, torch.zeros_like(counts), inverse.flatten(), counts
