"""Weight forms: how a weight is stored. Each can decode itself to a dense array (its reference meaning) and knows its bytes.

Arrays are numpy's, so that a model that needs no torch never imports it; an algorithm that wants a GPU or autograd imports
torch itself and returns numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Dense:
    """The weight as it is."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def decode(self) -> Array:
        return self.array

    def __str__(self) -> str:
        return "dense"


@dataclass(frozen=True)
class Quantized:
    """Integers on uniform grids: w = (codes − zero_point) · scale.

    codes: the weight's shape, int8 (signed) or uint8 (unsigned), or int32 for a bias; each within `bits` bits.
    scale: float32, (channels, groups), or (1, 1) for one grid per tensor. Channels are along `axis` of the weight; groups cut
        the other axes, flattened, into runs of `group_size`, the last of which may be short. group_size None: one group.
    zero_point: None (symmetric: 0), or of scale's shape and codes' dtype.
    """

    codes: Array
    scale: Array
    bits: int
    zero_point: Array | None = None
    group_size: int | None = None
    axis: int = 0
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def signed(self) -> bool:
        return self.codes.dtype.kind == "i"

    @property
    def per_tensor(self) -> bool:
        return self.scale.size == 1

    @property
    def nbytes(self) -> int:
        """Bytes when packed, each row to whole bytes, with scales (float32) and zero points (as wide as the codes)."""
        channels = self.shape[self.axis] if self.codes.ndim else 1
        row = prod(self.shape) // max(channels, 1)
        packed = channels * ((row * self.bits + 7) // 8)
        return packed + self.scale.nbytes + (0 if self.zero_point is None else (self.zero_point.size * self.bits + 7) // 8)

    def rows(self) -> Array:
        """The codes as (channels, everything else), the layout that scale and zero_point refer to."""
        if self.codes.ndim == 0:
            return self.codes.reshape(1, 1)
        return np.moveaxis(self.codes, self.axis, 0).reshape(self.shape[self.axis], -1)

    def expand(self, per_group: Array) -> Array:
        """A (channels, groups) array spread over the columns that each of its values holds for."""
        if self.group_size is None:
            return per_group
        return np.repeat(per_group, self.group_size, axis=1)[:, : self.rows().shape[1]]

    def decode(self) -> Array:
        codes = self.rows().astype(np.float32)
        if self.zero_point is not None:
            codes -= self.expand(self.zero_point.astype(np.float32))
        codes *= self.expand(self.scale)
        if self.codes.ndim == 0:
            return codes.reshape(()).astype(numpy_dtype(self.dtype))
        moved = (self.shape[self.axis], *(n for i, n in enumerate(self.shape) if i != self.axis))
        return np.moveaxis(codes.reshape(moved), 0, self.axis).astype(numpy_dtype(self.dtype), copy=False)

    def __str__(self) -> str:
        grid = "per-tensor" if self.per_tensor else f"g{self.group_size}" if self.group_size else "per-channel"
        return f"int{self.bits} {grid}" + ("" if self.zero_point is None else " asym")


@dataclass(frozen=True)
class Sparse:
    """The weights that are kept, and where they are; the others are zero.

    mask: bool, the weight's shape. values: the weights at the mask's ones, in row-major order, in the weight's own type (one may
    happen to be zero). pattern: "unstructured", or "N:M": of every M consecutive inputs of an output at most N are kept.
    """

    mask: Array
    values: Array
    pattern: str = "unstructured"

    @classmethod
    def of(cls, weight: Array, pattern: str = "unstructured", mask: Array | None = None) -> Sparse:
        """`weight` where `mask` is true; without a mask, where it is not zero."""
        kept = weight != 0 if mask is None else mask
        return cls(kept, weight[kept], pattern)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mask.shape

    @property
    def dtype(self) -> str:
        return str(self.values.dtype.name)

    @property
    def sparsity(self) -> float:
        """The share of weights that are left out."""
        return 1 - self.values.size / max(self.mask.size, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the values and of one bit a weight."""
        return self.values.nbytes + (self.mask.size + 7) // 8

    def decode(self) -> Array:
        weight = np.zeros(self.mask.shape, self.values.dtype)
        weight[self.mask] = self.values
        return weight

    def __str__(self) -> str:
        return f"sparse {self.sparsity:.0%}" if self.pattern == "unstructured" else self.pattern


WeightForm = Dense | Quantized | Sparse


def sparse_pattern(described: str) -> str | None:
    """The pattern of a sparse form by its description ("sparse 50%", "2:4"); None for other forms."""
    if described.startswith("sparse "):
        return "unstructured"
    kept, colon, of = described.partition(":")
    return described if colon and kept.isdigit() and of.isdigit() else None


@dataclass(frozen=True)
class Grid:
    """One uniform 8-bit grid for a whole activation tensor: q = clamp(round(x / scale) + zero_point, low, high), rounding half
    to even; x̂ = (q − zero_point) · scale. `scale` is a float32 value."""

    scale: float
    zero_point: int
    signed: bool = False

    @property
    def low(self) -> int:
        return -128 if self.signed else 0

    @property
    def high(self) -> int:
        return 127 if self.signed else 255

    @classmethod
    def over(cls, low: float, high: float, signed: bool = False) -> Grid:
        """The finest grid that holds [low, high] and 0 (0 must be exact: padding and ReLU make it common)."""
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        scale = float(np.float32((high - low) / 255)) or 1.0
        bottom = -128 if signed else 0
        zero = int(np.clip(np.rint(bottom - low / scale), bottom, bottom + 255))
        return cls(scale, zero, signed)

    def fake_quantize(self, x: Array) -> Array:
        codes = np.clip(np.rint(x / np.float32(self.scale)) + self.zero_point, self.low, self.high)
        decoded: Array = ((codes - self.zero_point) * np.float32(self.scale)).astype(x.dtype)
        return decoded


@dataclass(frozen=True)
class DynamicGrid:
    """An asymmetric u8 grid found for each tensor at run time from its minimum and maximum (ONNX DynamicQuantizeLinear)."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype of that name; "bfloat16" is ml_dtypes'."""
    if name == "bfloat16":
        import ml_dtypes

        brain: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return brain
    return np.dtype(name)
