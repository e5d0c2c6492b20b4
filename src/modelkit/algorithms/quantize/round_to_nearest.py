"""Round to nearest: each weight goes to the closest point of its grid. Needs no data.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018, eq. 1.
"""

from __future__ import annotations

import numpy as np

from modelkit.core import saturation
from modelkit.core.forms import Array, Quantized


def round_to_nearest(
    weight: Array,
    bits: int = 8,
    *,
    symmetric: bool = True,
    group_size: int | None = None,
    axis: int = 0,
    per_tensor: bool = False,
    reduce_range: bool = False,
    shrink: Array | float = 1.0,
) -> Quantized:
    """Quantise `weight` (out, in, *kernel), or any shape whose channels are along `axis`, to `bits` bits.

    Symmetric codes are signed and use ±(2^(bits−1) − 1); asymmetric codes are unsigned and 0 is on the grid. `shrink` (broadcast
    to (channels, groups)) narrows each grid: values outside are clipped. With `reduce_range`, sums of products of 8-bit codes are
    exact on every CPU (`core.saturation`): a grid is as wide as its pairs of weights need, else half of the levels are left out.
    """
    reduce_range = reduce_range and bits == 8
    rows = _rows(weight, axis)
    columns = rows.shape[1]
    if per_tensor:
        grouped = rows.reshape(1, 1, -1)
        group_size = None
    elif group_size is None or group_size >= columns:
        grouped = rows[:, None, :]
        group_size = None
    else:
        short = -columns % group_size  # the last group repeats its last value, which leaves its range unchanged
        padded = np.pad(rows, ((0, 0), (0, short)), mode="edge") if short else rows
        grouped = padded.reshape(rows.shape[0], -1, group_size)
    high = grouped.max(2) * shrink
    low = grouped.min(2) * shrink
    if symmetric:
        paired = reduce_range and axis == 0 and group_size is None and saturation.is_paired(weight.shape)
        limit = saturation.ALONE if reduce_range and not paired else 2 ** (bits - 1) - 1
        scale = np.maximum(np.abs(low), np.abs(high)) / limit
        if paired:  # two roundings may add 1 to a sum
            sums = saturation.largest_sums(weight.astype(np.float32, copy=False))[:, None] / (saturation.PAIR - 1)
            scale = np.maximum(scale, (sums.max() if per_tensor else sums) * shrink)
        zero_point = None
        bottom, top, dtype = -limit, limit, "int8"
    else:
        paired = False
        bottom, top, dtype = 0, 2 ** (bits - reduce_range) - 1, "uint8"
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scale = (high - low) / top
    # A grid for all zeros, or finer than float32 can divide by, is any grid.
    scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale).astype(np.float32)
    if not symmetric:
        zero_point = np.clip(np.rint(-low / scale), bottom, top).astype(dtype)
    blank = Quantized(np.empty(rows.shape, dtype), scale, bits, zero_point, group_size)
    codes = np.rint(rows / blank.expand(scale))
    if zero_point is not None:
        codes += blank.expand(zero_point.astype(np.float32))
    codes = np.clip(codes, bottom, top, out=codes).astype(dtype)
    moved = (weight.shape[axis], *(n for i, n in enumerate(weight.shape) if i != axis))
    codes = np.ascontiguousarray(np.moveaxis(codes.reshape(moved), 0, axis))
    if paired and np.min(shrink) < 1:
        codes = saturation.limited(codes.astype(np.int16)).astype(dtype)
    return Quantized(codes, scale, bits, zero_point, group_size, axis, str(weight.dtype))


def _rows(weight: Array, axis: int) -> Array:
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    return rows.astype(np.float32, copy=False)
