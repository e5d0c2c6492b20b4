"""Constants that reach a node through other operators: where they are stored, in which form, and what their values are.

Exporters write weights behind Transpose, Cast, Reshape or Identity, quantisers behind DequantizeLinear or plain arithmetic.
Whatever is computed from tensors alone counts as a constant and is computed here when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx

from modelkit.core.forms import Array

from .program import Program, attributes
from .session import run_nodes
from .tensors import PACKED_BITS, Tensor

# What lowering and quantisers append to the name of the weight they stored.
SUFFIXES = (".codes", ".scale", ".zero_point", ".mask", ".values", "_quantized", "_Q4", "_Q4G32", "_Q8")
_DIRECT: dict[str, Callable[[Array, Array], Array]] = {"Mul": np.multiply, "Add": np.add, "Sub": np.subtract}


@dataclass(frozen=True)
class Storage:
    """What a constant is made of: the tensors by name (the biggest first) with their bytes, and their form."""

    tensors: tuple[str, ...]
    bytes: int
    form: str

    @property
    def root(self) -> str:
        return self.tensors[0] if self.tensors else ""


def evaluate(program: Program, value: str) -> Array:
    """The constant `value` as an array; a view of the file where nothing had to be computed."""
    if value in program.tensors:
        return program.tensors[value].array()
    node = program.producer[value]
    inputs = [evaluate(program, name) if name else None for name in node.input]
    quick = computed(node, inputs)
    if quick is not None:
        return quick
    feeds = {name: array for name, array in zip(node.input, inputs, strict=True) if array is not None}
    return run_nodes(program, [node], feeds, [value])[0]


def computed(node: onnx.NodeProto, inputs: list[Array | None]) -> Array | None:
    """The operators that exporters really use, without a session each; None for the others."""
    first, rest = inputs[0] if inputs else None, inputs[1:]
    if first is None or node.domain not in ("", "ai.onnx"):
        return None
    given = attributes(node)
    if node.op_type == "Identity":
        return first
    if node.op_type == "Transpose":
        perm = given.get("perm")
        return first.transpose(tuple(perm) if isinstance(perm, (list, tuple)) else None)
    if node.op_type == "Cast" and given["to"] in _PLAIN:
        return first.astype(onnx.helper.tensor_dtype_to_np_dtype(_integer(given["to"])))
    if node.op_type == "Reshape" and rest[0] is not None and not given.get("allowzero"):
        return first.reshape([int(n) or first.shape[axis] for axis, n in enumerate(rest[0].tolist())])
    if node.op_type == "Unsqueeze" and rest and rest[0] is not None:
        return np.expand_dims(first, tuple(rest[0].reshape(-1).tolist()))
    if node.op_type == "Squeeze" and "axes" not in given:
        return first.squeeze(tuple(rest[0].reshape(-1).tolist()) if rest and rest[0] is not None else None)
    if node.op_type in _DIRECT and rest[0] is not None:
        return _DIRECT[node.op_type](first, rest[0])
    if node.op_type == "DequantizeLinear" and rest[0] is not None:
        return _dequantize(first, rest[0], rest[1] if len(rest) > 1 else None, given)
    return None


_PLAIN = tuple(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in
               ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"))  # fmt: skip


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _dequantize(codes: Array, scale: Array, zero_point: Array | None, given: dict[str, object]) -> Array:
    axis, block = _integer(given.get("axis", 1)), _integer(given.get("block_size", 0))
    dense = codes.astype(np.float32)

    def spread(per_grid: Array) -> Array:
        if per_grid.size == 1:
            return per_grid.reshape(())
        if block:
            return np.repeat(per_grid, block, axis)[tuple(slice(0, n) for n in codes.shape)]
        return per_grid.reshape([-1 if i == axis % codes.ndim else 1 for i in range(codes.ndim)])

    if zero_point is not None:
        dense -= spread(zero_point.astype(np.float32))
    dense *= spread(scale.astype(np.float32))
    return dense.astype(scale.dtype, copy=False)


def axes(program: Program, value: str, rank: int) -> tuple[int, ...] | None:
    """Which axis of the tensor that `value` is made of each of its axes is; None where it is more than turned round."""
    order = tuple(range(rank))
    while value in program.producer:
        node = program.producer[value]
        if node.op_type == "Transpose":
            perm = attributes(node).get("perm")
            turned = tuple(perm) if isinstance(perm, (list, tuple)) else tuple(range(rank))[::-1]
            order = tuple(turned[axis] for axis in order)
        elif node.op_type not in ("Identity", "Cast"):
            return None
        value = node.input[0]
    return order if value in program.tensors else None


def storage(program: Program, value: str) -> Storage:
    """What `value` is made of. Numbers that only steer operators (shapes, axes) count as bytes but are never the root."""
    found: dict[str, Tensor] = {}
    steering: dict[str, bool] = {}
    stack = [(value, False)]
    while stack:
        name, steers = stack.pop()
        if name in program.tensors:
            found[name] = program.tensors[name]
            steering[name] = steers and steering.get(name, True)
        elif name in program.producer:
            node = program.producer[name]
            stack.extend((given, steers or (at > 0 and node.op_type in _STEERED)) for at, given in enumerate(node.input))
    names = sorted(found, key=lambda name: (steering[name], -prod(found[name].shape)))
    return Storage(tuple(names), sum(tensor.nbytes for tensor in found.values()), _form(found, names))


# Operators whose inputs behind the first say how, not what.
_STEERED = frozenset(("BitShift", "Reshape", "Slice", "Squeeze", "Unsqueeze", "Expand", "Tile", "Pad", "Split", "ReduceMean"))
_INTEGERS = {onnx.TensorProto.INT8: 8, onnx.TensorProto.UINT8: 8, onnx.TensorProto.INT32: 32, **PACKED_BITS}


def _form(found: dict[str, Tensor], names: list[str]) -> str:
    """How the biggest tensor says that it is stored: "dense", or integers with as many grids as there are scales."""
    codes = found[names[0]] if names else None
    if codes is None or codes.data_type not in _INTEGERS:
        return "dense"
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    grids = max((prod(found[name].shape) for name in names[1:] if found[name].data_type in floats), default=1)
    size = prod(codes.shape)
    bits = _INTEGERS[codes.data_type]
    asymmetric = any(_shifted(found[name], codes) for name in names[1:])
    kind = "per-tensor" if grids == 1 else "per-channel" if grids in codes.shape else f"g{size // grids}"
    return f"int{bits} {kind}" + (" asym" if asymmetric else "")


def _shifted(zero_point: Tensor, codes: Tensor) -> bool:
    """Whether a zero point is not the middle of its type, as it is on a symmetric grid."""
    middle = {onnx.TensorProto.UINT8: 128, onnx.TensorProto.UINT4: 0x88}.get(zero_point.data_type, 0)
    return zero_point.data_type == codes.data_type and bool((zero_point.raw != middle).any())


def layer_name(root: str, role: str) -> str | None:
    """The name of the layer whose parameter in this role is stored as `root`; None if the name does not say."""
    for suffix in SUFFIXES:
        root = root.removesuffix(suffix)
    stem = root.removesuffix(f".{role}")
    return stem if stem and stem != root else None
