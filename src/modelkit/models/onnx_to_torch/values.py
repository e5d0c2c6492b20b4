"""What flows between nodes while an ONNX graph is translated: tensors, host-side shapes, and quantised levels.

ONNX computes shapes with tensors; torch.export wants them as (symbolic) ints. So what comes from a Shape operator stays on
the host, as a numpy array of ints and SymInts, until an operator needs it as a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch


@dataclass(frozen=True)
class Host:
    """A value whose entries are known during translation: a constant, or a shape with symbolic entries (dtype object).

    `dtype` is what the value is in ONNX; `tensor` is the parameter or buffer that holds it, for constants of the file.
    `shape` is that of the decoded value, which differs from the tensor's for packed 2 and 4 bit integers.
    """

    array: np.ndarray
    dtype: torch.dtype
    tensor: torch.Tensor | None = None

    @property
    def is_symbolic(self) -> bool:
        return bool(self.array.dtype == object)


@dataclass(frozen=True)
class Levels:
    """Quantised integers, held exactly in a floating-point tensor; `dtype` is the integer type they have in ONNX."""

    tensor: torch.Tensor
    dtype: torch.dtype


Value = torch.Tensor | Host | Levels | list[Any] | None

_VIEWED = {  # numpy (ml_dtypes) name: (numpy type of the same size, torch type)
    "bfloat16": (np.int16, torch.bfloat16),
    "float8_e4m3fn": (np.uint8, torch.float8_e4m3fn),
    "float8_e4m3fnuz": (np.uint8, torch.float8_e4m3fnuz),
    "float8_e5m2": (np.uint8, torch.float8_e5m2),
    "float8_e5m2fnuz": (np.uint8, torch.float8_e5m2fnuz),
}
_PACKED_BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}
_BY_ONNX_TYPE = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.UINT16: torch.uint16,
    onnx.TensorProto.UINT32: torch.uint32,
    onnx.TensorProto.UINT64: torch.uint64,
    onnx.TensorProto.BOOL: torch.bool,
    onnx.TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    onnx.TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    onnx.TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    onnx.TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    onnx.TensorProto.COMPLEX64: torch.complex64,
    onnx.TensorProto.COMPLEX128: torch.complex128,
    onnx.TensorProto.INT4: torch.int8,
    onnx.TensorProto.UINT4: torch.uint8,
}


def torch_type(onnx_type: int) -> torch.dtype | None:
    """The torch dtype of an ONNX element type (4-bit integers widen to 8), or None for strings and the like."""
    return _BY_ONNX_TYPE.get(onnx_type)


def packed_bits(array: np.ndarray) -> int | None:
    """2 or 4 if the array's integers are stored several to a byte, else None."""
    return _PACKED_BITS.get(array.dtype.name)


def pack(array: np.ndarray) -> torch.Tensor:
    """2 or 4 bit integers, flattened and packed into uint8 with the first in the lowest bits (ONNX's own layout)."""
    bits = _PACKED_BITS[array.dtype.name]
    per_byte = 8 // bits
    flat = array.astype(np.int8).reshape(-1).view(np.uint8) & (2**bits - 1)
    flat = np.pad(flat, (0, -len(flat) % per_byte)).reshape(-1, per_byte)
    return torch.from_numpy(np.bitwise_or.reduce(flat << (bits * np.arange(per_byte, dtype=np.uint8)), axis=1).astype(np.uint8))


def unpack(packed: torch.Tensor, bits: int, signed: bool) -> torch.Tensor:
    """uint8 (…, n) to integers (…, n · 8/bits), lowest bits first, with shifts and masks only."""
    mask, sign = 2**bits - 1, 2 ** (bits - 1)
    parts = [torch.bitwise_and(torch.bitwise_right_shift(packed, bits * i) if i else packed, mask) for i in range(8 // bits)]
    levels = torch.stack(parts, dim=-1).flatten(-2)
    return torch.bitwise_xor(levels, sign).to(torch.int8) - sign if signed else levels


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """A numpy constant as a torch tensor (packed for 2 and 4 bit integers), sharing memory where it is writeable."""
    if packed_bits(array):
        return pack(array)
    array = np.asarray(array, order="C")
    if not array.flags.writeable:
        array = array.copy()
    if array.dtype.name in _VIEWED:
        storage, dtype = _VIEWED[array.dtype.name]
        return torch.from_numpy(array.view(storage)).view(dtype)
    return torch.from_numpy(array)


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """The inverse of `tensor_of` for ordinary types."""
    for name, (storage, dtype) in _VIEWED.items():
        if tensor.dtype == dtype:
            integers = tensor.contiguous().view(torch.from_numpy(np.zeros(1, storage)).dtype)
            return np.asarray(integers.numpy()).view(np.dtype(_ml_type(name)))
    return np.asarray(tensor.numpy())


def _ml_type(name: str) -> Any:
    import ml_dtypes  # a dependency of onnx

    return getattr(ml_dtypes, name)


def dtype_of(array: np.ndarray) -> torch.dtype:
    """The torch dtype of a decoded numpy constant."""
    if packed_bits(array):
        return torch.int8 if array.dtype.name.startswith("int") else torch.uint8
    if array.dtype.name in _VIEWED:
        return _VIEWED[array.dtype.name][1]
    return torch.from_numpy(np.zeros(1, array.dtype)).dtype


def to_tensor(value: Value) -> torch.Tensor:
    """Any value as a tensor of its ONNX type."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Levels):
        return value.tensor.to(value.dtype)
    if not isinstance(value, Host):
        raise TypeError("a sequence where a tensor is needed")
    bits = packed_bits(value.array)
    if bits:
        stored = value.tensor if value.tensor is not None else pack(value.array)
        levels = unpack(stored, bits, signed=value.dtype == torch.int8)
        return levels[: value.array.size].reshape(value.array.shape)
    if value.tensor is not None:
        return value.tensor
    if not value.is_symbolic:
        return torch.tensor(value.array.tolist(), dtype=value.dtype).reshape(value.array.shape)
    entries = [torch.scalar_tensor(entry, dtype=value.dtype) for entry in value.array.reshape(-1)]
    return torch.stack(entries).reshape(value.array.shape)


def to_host(value: Value) -> np.ndarray:
    """A small integer value as a numpy array; entries of a computed tensor become symbolic ints."""
    if isinstance(value, Host):
        return value.array
    tensor = to_tensor(value)
    entries = np.empty(tensor.numel(), dtype=object)
    entries[:] = [entry.item() for entry in tensor.reshape(-1).unbind()]
    return entries.reshape(tuple(tensor.shape))


def scalar_of(value: Value) -> Any:
    """The only entry of a host value as a Python (or symbolic) number, or None if it is not one or does not fit in a graph."""
    if not isinstance(value, Host) or value.array.size != 1 or packed_bits(value.array):
        return None
    entry = value.array.reshape(-1)[0]
    if value.is_symbolic:
        return entry
    if value.dtype == torch.bool:
        return bool(entry)
    return float(entry) if value.dtype.is_floating_point else int(entry)


def host(entries: Any, dtype: torch.dtype = torch.int64) -> Host:
    """A host value from (nested lists of) plain and symbolic numbers; all plain ones become an ordinary numpy array."""
    array = np.asarray(entries, dtype=object)
    if all(isinstance(entry, (bool, int, float, np.number, np.bool_)) for entry in array.reshape(-1)):
        kind = bool if dtype == torch.bool else np.float64 if dtype.is_floating_point else np.int64
        array = array.astype(kind)
    return Host(array, dtype)
