"""Find the integers again that a dequantised weight came from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import prod

import numpy as np

from ..core.forms import Array, Quantized


def recovered(weight: Array, scales: Iterable[Array], described: str, axis: int = 0) -> Quantized | None:
    """The form that decodes to exactly `weight`, given the scales it was stored with and its description ("int4 g32 asym").

    None where there is no such form. Zero points may differ from those of the file, codes then differ by as much.
    """
    bits = re.match(r"int(\d+)", described)
    group = re.search(r"\bg(\d+)", described)
    if bits is None or weight.ndim == 0 or not np.isfinite(weight).all():
        return None
    group_size = int(group[1]) if group else None
    channels = weight.shape[axis]
    columns = prod(weight.shape) // max(channels, 1)
    groups = -(-columns // group_size) if group_size else 1
    for scale in scales:
        if scale.size == 1 and not group_size:
            layouts = [scale.reshape(1, 1)]
        elif scale.size == channels * groups:
            layouts = [scale.reshape(channels, groups), scale.reshape(groups, channels).T]
        else:
            continue
        for layout in layouts:
            form = _on_grid(weight, layout.astype(np.float32), int(bits[1]), group_size, axis)
            if form is not None and np.array_equal(form.decode(), weight):
                return form
    return None


def _on_grid(weight: Array, scale: Array, bits: int, group_size: int | None, axis: int) -> Quantized | None:
    if not 1 <= bits <= 8 or not (scale > 0).all():
        return None
    scale = np.ascontiguousarray(scale)
    empty = Quantized(np.zeros(weight.shape, np.int8), scale, bits, None, group_size, axis)
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float32)
    steps = np.rint(rows / empty.expand(scale))
    half = 2 ** (bits - 1)
    if steps.size and steps.min() >= -half and steps.max() < half:
        codes, zero = steps, None
    else:
        lowest = _lowest(steps, scale.shape, group_size)
        zero = np.clip(-lowest, 0, 2 * half - 1)
        codes = steps + empty.expand(zero)
        if codes.min() < 0 or codes.max() >= 2 * half:
            return None
    moved = (weight.shape[axis], *(n for i, n in enumerate(weight.shape) if i != axis))
    dtype = np.int8 if zero is None else np.uint8
    restored = np.ascontiguousarray(np.moveaxis(codes.reshape(moved), 0, axis).astype(dtype))
    return Quantized(restored, scale, bits, None if zero is None else zero.astype(dtype), group_size, axis, weight.dtype.name)


def _lowest(steps: Array, shape: tuple[int, ...], group_size: int | None) -> Array:
    """The smallest step that each scale holds for."""
    if shape == (1, 1):
        return steps.min().reshape(1, 1)
    if group_size is None:
        return steps.min(axis=1, keepdims=True)
    parts = [steps[:, i * group_size : (i + 1) * group_size].min(axis=1) for i in range(shape[1])]
    return np.stack(parts, axis=1)
