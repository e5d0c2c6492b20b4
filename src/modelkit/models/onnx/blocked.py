"""Weights in the layout of com.microsoft MatMulNBits: rows cut into blocks of a power of two, each with its scale.

Measured on an AVX2 CPU, 4096 × 4096, int4 in groups of 128, one thread: with activations rounded to int8 by block 0.81 ms for
one token (float32 weights: 4.1 ms) and 44 ms for 128 rows (53 ms). With float32 activations it is no faster than float32
weights, which is why weight-only forms don't use it.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from modelkit.core.forms import Quantized

from .emitter import Emitter

_BLOCKS = (16, 32, 64, 128, 256)
_INT8_ACTIVATIONS = 4  # the operator's accuracy_level


def reason_against(form: Quantized) -> str | None:
    if form.bits not in _bits():
        return f"activations on a grid with groups need {', '.join(map(str, _bits()))} bits here, not {form.bits}"
    if form.group_size not in _BLOCKS:
        return f"activations on a grid with groups need a group size of {', '.join(map(str, _BLOCKS))}, not {form.group_size}"
    return "groups must run along the inputs" if form.axis != 0 else None


@cache
def _bits() -> tuple[int, ...]:
    """What the kernel of this machine's ONNX Runtime knows."""
    import onnxruntime

    release = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    return (2, 4, 8) if release >= (1, 24) else (4, 8)


def attributes(form: Quantized) -> dict[str, int]:
    assert form.group_size is not None
    rows, columns = form.shape
    return {"N": rows, "K": columns, "bits": form.bits, "block_size": form.group_size, "accuracy_level": _INT8_ACTIVATIONS}


def inputs(out: Emitter, base: str, form: Quantized) -> list[str]:
    """Codes (N, blocks, bytes), scales (N · blocks) and zero points, each row to whole bytes: neighbouring codes share a byte,
    the first in its lowest bits."""
    assert form.group_size is not None
    rows, groups = form.scale.shape
    offset = 1 << (form.bits - 1) if form.signed else 0
    fill = offset  # what a symmetric grid decodes to 0
    codes = np.full((rows, groups * form.group_size), fill, np.uint8)
    codes[:, : form.shape[1]] = (form.codes.astype(np.int16) + offset).astype(np.uint8)
    packed = _pack(codes, form.bits).reshape(rows, groups, -1)
    names = [out.tensor(f"{base}.codes", packed), out.tensor(f"{base}.scale", form.scale.reshape(-1))]
    if form.zero_point is not None or not form.signed:
        zero = np.zeros(form.scale.shape, np.int16) if form.zero_point is None else form.zero_point.astype(np.int16)
        names.append(out.tensor(f"{base}.zero_point", _pack((zero + offset).astype(np.uint8), form.bits).reshape(-1)))
    return names


def _pack(codes: np.ndarray, bits: int) -> np.ndarray:
    fields = 8 // bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % fields))).reshape(codes.shape[0], -1, fields)
    return np.bitwise_or.reduce(padded << (np.arange(fields, dtype=np.uint8) * bits), axis=2).astype(np.uint8)
