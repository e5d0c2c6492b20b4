"""Constant tensors of an ONNX file as numpy views: nothing is copied out of the (memory-mapped) file before its use."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from modelkit.core.forms import Array

# Bits per element of the types that ONNX packs several to a byte.
PACKED_BITS = {
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.UINT4: 4,
    **{
        code: bits
        for name, bits in (("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
        if (code := getattr(onnx.TensorProto, name, None))
    },
}


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes lie: an absolute path, an offset, and what the file was like then."""

    file: Path
    offset: int
    state: tuple[int, ...]

    @classmethod
    def at(cls, file: Path, offset: int) -> Place:
        return cls(file.resolve(), offset, _state(file))  # a link may point outside of the folder that runtimes allow

    @property
    def unchanged(self) -> bool:
        """Whether the file is still the one that was mapped."""
        try:
            return _state(self.file) == self.state
        except OSError:
            return False


def _state(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Tensor:
    """One constant: its ONNX element type, its shape, and its bytes in ONNX's little-endian raw layout (a flat uint8 array).

    `place`: where in a file they were found."""

    data_type: int
    shape: tuple[int, ...]
    raw: Array
    place: Place | None = None

    @classmethod
    def of(cls, array: Array) -> Tensor:
        contiguous = np.ascontiguousarray(array)
        data_type = onnx.helper.np_dtype_to_tensor_dtype(contiguous.dtype)
        raw = contiguous.reshape(-1).view(np.uint8)
        bits = PACKED_BITS.get(data_type)
        if bits is not None:
            fields = 8 // bits
            padded = np.pad(raw & np.uint8((1 << bits) - 1), (0, -raw.size % fields)).reshape(-1, fields)
            raw = np.bitwise_or.reduce(padded << np.arange(0, 8, bits, dtype=np.uint8), axis=1).astype(np.uint8)
        return cls(data_type, array.shape, raw)

    @classmethod
    def from_proto(cls, proto: onnx.TensorProto) -> Tensor:
        """A tensor whose data lies in the proto, in whichever field."""
        if proto.HasField("raw_data"):
            return cls(proto.data_type, tuple(proto.dims), np.frombuffer(proto.raw_data, np.uint8))
        if proto.data_type in PACKED_BITS:
            return cls(proto.data_type, tuple(proto.dims), np.array(proto.int32_data, np.int32).astype(np.uint8))
        return cls.of(onnx.numpy_helper.to_array(proto))

    @property
    def nbytes(self) -> int:
        return int(self.raw.nbytes)

    @property
    def dtype(self) -> np.dtype[Any]:
        return onnx.helper.tensor_dtype_to_np_dtype(self.data_type)

    def array(self) -> Array:
        """The values, as a view where the layout allows it; 4-bit and 2-bit types are unpacked to ml_dtypes' types."""
        bits = PACKED_BITS.get(self.data_type)
        if bits is None:
            return self.raw.view(self.dtype).reshape(self.shape)
        fields = (self.raw[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)) & np.uint8((1 << bits) - 1)
        codes = fields.reshape(-1)[: prod(self.shape)]
        if np.dtype(self.dtype).name.startswith("int"):
            signed = (codes << (8 - bits)).view(np.int8) >> (8 - bits)
            return signed.astype(self.dtype).reshape(self.shape)
        if np.dtype(self.dtype).name.startswith("uint"):
            return codes.astype(self.dtype).reshape(self.shape)
        return codes.view(self.dtype).reshape(self.shape)

    def header(self, name: str) -> onnx.TensorProto:
        """A TensorProto that says everything but the data."""
        return onnx.TensorProto(name=name, data_type=self.data_type, dims=self.shape)

    def proto(self, name: str) -> onnx.TensorProto:
        header = self.header(name)
        header.raw_data = self.raw.tobytes()
        return header


def forget(arrays: Iterable[Array]) -> None:
    """Let go of the memory that holds the pages of mapped files; they are read again when they are next used."""
    maps: dict[int, mmap.mmap] = {}
    for array in arrays:
        owner: Any = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, mmap.mmap):
            maps[id(owner)] = owner
    for mapped in maps.values():
        if hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def stored_bytes(data_type: int, shape: tuple[int, ...]) -> int:
    """How many bytes a tensor of this type and shape takes in ONNX's raw layout."""
    bits = PACKED_BITS.get(data_type)
    if bits is not None:
        return (prod(shape) * bits + 7) // 8
    return prod(shape) * onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize
