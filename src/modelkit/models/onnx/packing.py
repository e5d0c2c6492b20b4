"""Integers of 1 to 7 bits packed into bytes, so that two shifts of whole tensors unpack them.

A row of codes is cut into planes of 4, 2 and 1 bits (3 = 2 + 1). A byte of a plane of b bits holds 8/b codes that lie a whole
stride apart: byte p of P holds the columns p, P + p, 2P + p, …, the first in the lowest bits. Unpacked by broadcasting, the
fields come out in order, without interleaving. ONNX has shifts for uint8 since opset 11.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelkit.core.forms import Array


@dataclass(frozen=True)
class Plane:
    """`packed` is (rows, 1, bytes), each byte with 8 / `bits` fields; a code is the sum over planes of field · `weight`."""

    packed: Array
    bits: int
    weight: int

    @property
    def fields(self) -> int:
        return 8 // self.bits

    @property
    def left(self) -> Array:
        """By how much to shift left, per field, so that its bits become the topmost."""
        return (8 - self.bits - self.bits * np.arange(self.fields)).astype(np.uint8).reshape(-1, 1)

    @property
    def right(self) -> Array:
        return np.array(8 - self.bits, np.uint8)

    @property
    def columns(self) -> int:
        """How many columns come out, filling included."""
        return self.fields * int(self.packed.shape[2])


def pack(codes: Array, bits: int) -> list[Plane]:
    """`codes` (rows, columns), uint8 below 2**bits, as planes from the lowest bits up."""
    rows, columns = codes.shape
    planes, shift = [], 0
    for width in (4, 2, 1):
        if not bits & width:
            continue
        fields = 8 // width
        stride = -(-columns // fields)
        padded = np.zeros((rows, fields, stride), np.uint8)
        padded.reshape(rows, -1)[:, :columns] = (codes >> shift) & ((1 << width) - 1)
        packed = np.zeros((rows, 1, stride), np.uint8)
        for index in range(fields):
            packed[:, 0] |= padded[:, index] << np.uint8(width * index)
        planes.append(Plane(packed, width, 1 << shift))
        shift += width
    return planes
