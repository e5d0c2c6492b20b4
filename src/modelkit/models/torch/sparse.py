"""Sparse weights as plain ATen operators: a buffer with one bit a weight, one with the values that are kept, and the operators
that put them in their places where the layer reads its weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ...core.forms import Sparse
from .forms import to_array, to_tensor
from .packing import pack, unpack
from .program import Program
from .weights import unpack_bits

aten = torch.ops.aten


@dataclass(frozen=True)
class SparseBuffers:
    """The placeholders of one sparse weight: packed mask (uint8) and values."""

    form: Sparse
    mask: fx.Node
    values: fx.Node

    def record(self, program: Program) -> dict[str, Any]:
        """What a file must say for `read_sparse` to find and understand the buffers again."""
        form = self.form
        return {
            "mask": program.target(self.mask), "values": program.target(self.values),
            "pattern": form.pattern, "shape": list(form.shape), "dtype": form.dtype,
        }  # fmt: skip


def store_sparse(program: Program, form: Sparse, target: str) -> SparseBuffers:
    """Add the buffers of `form` to the program as `target`_mask and _values."""
    packed = pack(form.mask.reshape(1, -1), 1)[0]
    mask = program.add_tensor(f"{target}_mask", to_tensor(packed))
    return SparseBuffers(form, mask, program.add_tensor(f"{target}_values", to_tensor(form.values)))


def decode_sparse(program: Program, buffers: SparseBuffers) -> fx.Node:
    """Compute the whole weight, where the graph inserts now."""
    form = buffers.form
    mask = program.call(aten.to.dtype, unpack_bits(program, buffers.mask, 1, form.mask.size), torch.bool)
    zeros = program.call(aten.new_zeros.default, buffers.values, [form.mask.size])
    return program.call(
        aten.view.default, program.call(aten.masked_scatter.default, zeros, mask, buffers.values), list(form.shape)
    )


def read_sparse(record: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Sparse:
    """The form that `SparseBuffers.record` described. Raises KeyError, TypeError, ValueError or AssertionError where it does
    not fit."""
    shape = tuple(int(n) for n in record["shape"])
    size = int(torch.Size(shape).numel())
    packed, values = to_array(tensors[record["mask"]]), to_array(tensors[record["values"]])
    assert packed.ndim == values.ndim == 1 and packed.size == -(-size // 8)
    mask = unpack(packed[None], 1, size).astype(bool).reshape(shape)
    form = Sparse(mask, values, str(record["pattern"]))
    assert int(mask.sum()) == values.size and form.dtype == record["dtype"]
    return form
