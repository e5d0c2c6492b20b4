"""Weights whose products with unsigned 8-bit activations can't overflow where a processor adds two of them in 16 bits
(VPMADDUBSW, on CPUs with AVX2 but no VNNI).

Kernels add the products of a layer's inputs 2k and 2k + 1, in a convolution those at one place of its kernel. 255 · 128 < 2¹⁵: so
codes of one sign may sum to 128 in each such pair, and one of them may use all of its 8 bits. To keep every code within ±64 is
safe whatever is added to what, but gives up half of the levels.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .forms import Array

PAIR, ALONE = 128, 64


def is_paired(shape: tuple[int, ...]) -> bool:
    """Whether a weight of this shape, (out, in, *kernel), has its inputs added in those pairs: kernels that lay all places of a
    convolution in one row pair the last input of one place with the first of the next where the inputs are odd in number."""
    return len(shape) > 1 and (shape[1] % 2 == 0 or prod(shape[2:]) == 1)


def largest_sums(weight: Array) -> Array:
    """The largest magnitude of a pair's sum for each output, (out,): of values of one sign where it is above all magnitudes."""
    first, second = pairs(weight)
    sums = first + second
    largest: Array = np.abs(sums, out=sums).reshape(len(weight), -1).max(1, initial=0)
    return largest


def limited(codes: Array) -> Array:
    """The codes, the second of a pair clipped where the two of them sum to too much."""
    first, second = pairs(codes)
    result = codes.copy()
    result[:, 1::2] = second.clip(*bounds(first))
    return result


def fits(codes: Array) -> bool:
    """Whether sums of products of these codes with any unsigned 8-bit activations are exact."""
    wide = codes.astype(int)  # sums and −(−128) fit
    return bool((largest_sums(wide) <= PAIR).all() if is_paired(codes.shape) else (abs(wide) <= ALONE).all())


def pairs(weight: Any) -> tuple[Any, Any]:
    """The first and the second of all pairs, of an array or a tensor; of an odd number of inputs the last is in none."""
    even = weight.shape[1] // 2 * 2
    return weight[:, 0:even:2], weight[:, 1:even:2]


def bounds(first: Any) -> tuple[Any, Any]:
    """What the second of a pair may be at least and at most."""
    return -PAIR - first.clip(max=0), PAIR - first.clip(min=0)
