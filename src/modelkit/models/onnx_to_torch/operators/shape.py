"""Operators that move, select or repeat values without computing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..node import Node
from ..registry import translates
from ..values import Host, Levels, Value, host, to_tensor


def shape_of(value: Value) -> list[Any]:
    """Sizes of a value, symbolic where open."""
    if isinstance(value, Host):
        return list(value.array.shape)
    return list(value.tensor.shape if isinstance(value, Levels) else to_tensor(value).shape)


def entries(array: np.ndarray | None) -> list[Any]:
    """A host value of one dimension as a list of plain and symbolic ints."""
    return [] if array is None else [int(e) if isinstance(e, (np.integer, np.bool_)) else e for e in array.reshape(-1).tolist()]


def is_plain(size: Any, value: int) -> bool:
    """Whether a size is known and equal to `value`, without asking a symbolic one."""
    return isinstance(size, int) and size == value


@translates("Shape", raw=True)
def shape(node: Node, x: Value) -> Host:
    sizes = shape_of(x)
    return host(sizes[slice(node.attributes.get("start"), node.attributes.get("end"))])


@translates("Size", raw=True)
def size(node: Node, x: Value) -> Host:
    total: Any = 1
    for extent in shape_of(x):
        total = total * extent
    return host(total)


@translates("Reshape", host=(1,))
def reshape(node: Node, x: torch.Tensor, target: np.ndarray) -> torch.Tensor:
    sizes = entries(target)
    if not node.integer("allowzero", 0):
        sizes = [x.shape[d] if is_plain(extent, 0) else extent for d, extent in enumerate(sizes)]
    return x.reshape(sizes)


@translates("Flatten")
def flatten(node: Node, x: torch.Tensor) -> torch.Tensor:
    axis = node.integer("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 0:
        return x.reshape(1, -1)
    if axis == x.ndim:
        return x.reshape(-1, 1)
    return x.flatten(axis).flatten(0, axis - 1) if axis > 1 else x.flatten(1)


@translates("Transpose")
def transpose(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x.permute(node.integers("perm") or list(reversed(range(x.ndim))))


@translates("Squeeze", host=(1,))
def squeeze(node: Node, x: torch.Tensor, axes: np.ndarray | None = None) -> torch.Tensor:
    chosen = node.integers("axes") if axes is None else entries(axes)
    if chosen is None:
        chosen = [d for d, extent in enumerate(x.shape) if is_plain(extent, 1)]
    return x.squeeze(tuple(chosen))


@translates("Unsqueeze", host=(1,))
def unsqueeze(node: Node, x: torch.Tensor, axes: np.ndarray | None = None) -> torch.Tensor:
    chosen = entries(axes) if axes is not None else node.integers("axes") or []
    rank = x.ndim + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


@translates("Expand", host=(1,))
def expand(node: Node, x: torch.Tensor, target: np.ndarray) -> torch.Tensor:
    wanted = entries(target)
    wanted = [1] * (x.ndim - len(wanted)) + wanted
    have = [1] * (len(wanted) - x.ndim) + list(x.shape)
    sizes = [h if is_plain(w, 1) else w for h, w in zip(have, wanted, strict=True)]
    return x.expand(sizes)


@translates("Concat")
def concat(node: Node, *tensors: torch.Tensor) -> torch.Tensor:
    return torch.cat(tensors, node.integer("axis", 0)) if len(tensors) > 1 else tensors[0]


@translates("Split", host=(1,))
def split(node: Node, x: torch.Tensor, sizes: np.ndarray | None = None) -> tuple[torch.Tensor, ...]:
    axis = node.integer("axis", 0)
    parts = node.integers("split") if sizes is None else entries(sizes)
    if parts is None:
        count = node.integer("num_outputs", len(node.outputs))
        each = (x.shape[axis] + count - 1) // count
        parts = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    return tuple(torch.split(x, parts, axis))


@translates("Tile", host=(1,))
def tile(node: Node, x: torch.Tensor, repeats: np.ndarray) -> torch.Tensor:
    return x.repeat(entries(repeats))


@translates("Slice", host=(1, 2, 3, 4))
def slice_(
    node: Node,
    x: torch.Tensor,
    starts: np.ndarray,
    ends: np.ndarray,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> torch.Tensor:
    chosen = entries(axes) if axes is not None else list(range(len(starts)))
    strides = entries(steps) if steps is not None else [1] * len(chosen)
    for start, end, axis, step in zip(entries(starts), entries(ends), chosen, strides, strict=True):
        if step < 0:
            x = _backwards(x, start, end, axis, step)
        else:
            x = torch.ops.aten.slice.Tensor(x, axis, start, end, step)
    return x


def _backwards(x: torch.Tensor, start: Any, end: Any, axis: int, step: int) -> torch.Tensor:
    """A slice with a negative step, as one of the flipped tensor: place i becomes size − 1 − i."""
    size = x.shape[axis]
    first = 0 if start == -1 or start >= 2**31 - 1 else size - 1 - (start + size if start < 0 else torch.sym_min(start, size - 1))
    last = size if end < -(2**31) + 2 else size - 1 - (end + size if end < 0 else end)
    return torch.ops.aten.slice.Tensor(x.flip(axis), axis, first, torch.sym_min(last, size), -step)  # type: ignore[no-any-return]


@translates("DepthToSpace")
def depth_to_space(node: Node, x: torch.Tensor) -> torch.Tensor:
    b, (n, c, h, w) = node.integer("blocksize", 1), x.shape
    if node.text("mode", "DCR") == "CRD":
        return torch.pixel_shuffle(x, b)
    return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


@translates("SpaceToDepth")
def space_to_depth(node: Node, x: torch.Tensor) -> torch.Tensor:
    b, (n, c, h, w) = node.integer("blocksize", 1), x.shape
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@translates("Trilu", host=(1,))
def triangle(node: Node, x: torch.Tensor, k: np.ndarray | None = None) -> torch.Tensor:
    diagonal = 0 if k is None else entries(k)[0]
    return torch.triu(x, diagonal) if node.integer("upper", 1) else torch.tril(x, diagonal)


@translates("ReverseSequence")
def reverse_sequence(node: Node, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    time, batch = node.integer("time_axis", 0), node.integer("batch_axis", 1)
    moved = x.movedim((batch, time), (0, 1))
    place = torch.arange(moved.shape[1]).unsqueeze(0)
    last = lengths.unsqueeze(1)
    source = torch.where(place < last, last - 1 - place, place)
    rows = torch.arange(moved.shape[0]).unsqueeze(1)
    return moved[rows, source].movedim((0, 1), (batch, time))
