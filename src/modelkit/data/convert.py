"""From raw values to what the model takes: scaling of uint8 images, casts, and the checks that make a cast safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import ModelkitError
from ..core.forms import Array
from ..core.graph import Input, Shape
from ..core.model import Preprocessing
from .layout import Layout


@dataclass(frozen=True)
class Conversion:
    """How column `column` becomes model input `input`. `preprocessing` is set for uint8 values into a float input."""

    input: Input
    column: str
    origin: str
    layout: Layout
    dtype: np.dtype[Any]
    preprocessing: Preprocessing | None = None

    def apply(self, raw: Array) -> Array:
        """(rows, *sample) as stored to (rows, *input dims) in its type. Raises ModelkitError for values that don't fit."""
        name = f"Column {self.column!r} of {self.origin}"
        if self.preprocessing is not None:
            raw = scale(raw, self.preprocessing, self.layout.channel_axis)
        return np.ascontiguousarray(self.layout.apply(cast(raw, self.dtype, self.input, name)))


def numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype.name == "bfloat16"


def why_not(given: np.dtype[Any], wanted: np.dtype[Any]) -> str | None:
    """None when values of one type can be given as the other, else the reason why not."""
    if not (given.kind in "biuf" or is_float(given)):
        return f"{given} values are not numbers"
    if is_float(given) and not is_float(wanted):
        return f"{given} values can't be given to a {wanted} input"
    return None


def channel_axis(shape: Shape, channels: int, told: int | None) -> int | None:
    """The axis of a raw sample that holds the channels: the one the layout tells, else the first, else the last that fits."""
    axes = (0, len(shape) - 1) if told is None else (told,)
    return next((axis for axis in axes if shape and shape[axis] == channels), None)


def scale(raw: Array, how: Preprocessing, told: int | None) -> Array:
    """(raw · scale − mean) / std in float32, mean and std along the channel axis of the samples."""
    out = raw.astype(np.float32)
    out *= np.float32(how.scale)
    for values, operate in ((how.mean, np.subtract), (how.std, np.divide)):
        spread: Any = np.asarray(values, np.float32)
        if len(values) > 1:
            axis = channel_axis(raw.shape[1:], len(values), told)
            if axis is None:  # checked when the data was opened
                raise ValueError(f"{len(values)} channels do not fit {raw.shape}")
            spread = spread.reshape([-1 if i == axis + 1 else 1 for i in range(raw.ndim)])
        operate(out, spread, out=out)
    return out


def cast(values: Array, dtype: np.dtype[Any], target: Input, name: str) -> Array:
    if is_float(dtype):
        with np.errstate(over="ignore"):
            out = values.astype(dtype, copy=False)
        finite = np.isfinite(out)
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            if np.isfinite(values[row].astype(np.float64)).all():
                raise ModelkitError(f"{name} has values too large for {target}.", f"Scale the data into the range of {dtype}.")
            raise ModelkitError(
                f"{name} has NaN or infinite values.", "Remove or fill those samples; the model can't be measured on them."
            )
        return out
    if values.size and dtype.kind != values.dtype.kind or dtype.itemsize < values.dtype.itemsize:
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if least < low or most > high:
            raise ModelkitError(
                f"{name} has values from {least} to {most}, outside the range of {target}.", f"Give values from {low} to {high}."
            )
    return values.astype(dtype, copy=False)
