"""Concrete shapes for every value of a program: one sample, symbols bound.

The file's own value_info is used when it says enough; else ONNX's shape inference runs over the program without its weights'
data; what that can't find is learnt by running the model once on made-up inputs (see model.py).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.core.forms import Array
from modelkit.core.graph import Input, Shape
from modelkit.core.open_sizes import usual_size

from .program import Program

Bindings = Mapping[str, tuple[str, tuple[int, ...]]]  # input name → (dtype, or "" for what the file says; shape)

_LENGTH = 128
_SMALLEST_TABLE = 4  # a table with fewer rows than this tells segments apart, not positions


@dataclass(frozen=True)
class Shapes:
    """`found` has a shape for each value whose shape is known, `dtypes` numpy's name for each whose type is. The user stated the
    sizes of the inputs in `bound`."""

    inputs: tuple[Input, ...]
    found: dict[str, Shape]
    dtypes: dict[str, str]
    bound: frozenset[str] = frozenset()


def infer(program: Program, bindings: Bindings | None, path: object) -> Shapes:
    """Raises ModelkitError for bindings that don't fit the model."""
    inputs = tuple(_input(value, (bindings or {}).get(value.name)) for value in program.structure.graph.input)
    bound = _bind(program, inputs, bindings or {}, path)
    shapes = {spec.name: tuple(bound(spec, axis) for axis in range(len(spec.dims))) for spec in inputs}
    symbols = {
        dim: size for spec in inputs for dim, size in zip(spec.dims, shapes[spec.name], strict=True) if isinstance(dim, str)
    }
    known = Shapes(inputs, dict(shapes), {spec.name: spec.dtype for spec in inputs}, frozenset(bindings or {}))
    for name, tensor in program.tensors.items():
        known.found[name], known.dtypes[name] = tensor.shape, tensor.dtype.name
    if not _stated(program, known, symbols):
        _inferred(program, known)
    return known


def _input(value: onnx.ValueInfoProto, binding: tuple[str, tuple[int, ...]] | None) -> Input:
    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type":
        raise ModelkitError(f"The input {value.name!r} is not a tensor.", "Only models whose inputs are tensors can be used.")
    if not tensor.HasField("shape"):  # not even the rank is known
        rank = len(binding[1]) if binding else 0
        if binding is None:
            warnings.warn(InputWarning(f"{value.name}: the file leaves its shape open. Give it with --input."), stacklevel=2)
        return Input(value.name, _dtype_name(tensor.elem_type), tuple(f"{value.name}_{axis}" for axis in range(rank)))
    dims: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        kind = dim.WhichOneof("value")
        dims.append(
            dim.dim_value
            if kind == "dim_value" and dim.dim_value > 0
            else dim.dim_param
            if dim.dim_param
            else f"{value.name}_{axis}"
        )
    return Input(value.name, _dtype_name(tensor.elem_type), tuple(dims))


def _dtype_name(code: int) -> str:
    if code == onnx.TensorProto.STRING:
        return "str"
    return onnx.helper.tensor_dtype_to_np_dtype(code).name if code else "float32"


def fitting(program: Program, example: Mapping[str, Array]) -> Bindings:
    """Bindings from sample arrays, for those inputs whose name, rank and fixed sizes they fit: calibration data may be raw."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for value in program.structure.graph.input:
        array = example.get(value.name)
        spec = _input(value, None)
        if array is not None and len(spec.dims) == array.ndim:
            if all(isinstance(dim, str) or axis == 0 or dim == array.shape[axis] for axis, dim in enumerate(spec.dims)):
                batch = spec.dims[0] if spec.dims and isinstance(spec.dims[0], int) else 1
                found[value.name] = ("", (batch, *array.shape[1:]))
    return found


def _bind(program: Program, inputs: tuple[Input, ...], bindings: Bindings, path: object) -> Callable[[Input, int], int]:
    """A function that gives the size of any dimension of any input."""
    names = [spec.name for spec in inputs]
    given: dict[str, int] = {}
    for name, (dtype, shape) in bindings.items():
        if name not in names:
            raise ModelkitError(f"{path} has no input {name!r}.", f"Its inputs: {', '.join(map(str, inputs))}.")
        spec = inputs[names.index(name)]
        fits = len(shape) == len(spec.dims) and all(
            isinstance(dim, str) or dim == n for dim, n in zip(spec.dims, shape, strict=True)
        )
        if not fits or dtype not in ("", spec.dtype):
            raise ModelkitError(
                f"The input of {path} is {spec}, so it can't be {dtype}{list(shape)}.", "Give --input a shape and type that fit."
            )
        # The first dimension is the batch: graphs describe one sample.
        given.update((dim, n) for dim, n in zip(spec.dims[1:], shape[1:], strict=True) if isinstance(dim, str))
    batch = {spec.dims[0] for spec in inputs if spec.dims and isinstance(spec.dims[0], str)}
    length = min([_LENGTH, *_table_rows(program)])

    def symbol(name: str, spec: Input, axis: int) -> int:
        if name in given:
            return given[name]
        if name in batch:
            return 1
        if "+" in name:  # such as "past_length + 1"
            parts = [part.strip() for part in name.split("+")]
            return sum(int(part) if part.isdigit() else symbol(part, spec, axis) for part in parts)
        given[name] = 0 if "past" in name.lower() else usual_size(spec.dims, axis, "float" in spec.dtype) or length
        note = f"{spec.name}: the file leaves its dimension {name!r} open; {given[name]} is assumed (--input changes that)."
        warnings.warn(InputWarning(note), stacklevel=2)
        return given[name]

    def size(spec: Input, axis: int) -> int:
        dim = spec.dims[axis]
        return dim if isinstance(dim, int) else symbol(dim, spec, axis)

    return size


def _table_rows(program: Program) -> list[int]:
    """Rows of the tables that values are looked up in: a sequence no longer than the smallest fits every position table."""
    rows = []
    for node in program.nodes:
        table = program.tensors.get(node.input[0]) if node.op_type == "Gather" else None
        if table is not None and len(table.shape) == 2 and table.shape[0] > _SMALLEST_TABLE:
            rows.append(table.shape[0])
    return rows


def _stated(program: Program, known: Shapes, symbols: Mapping[str, int]) -> bool:
    """Take what the file says. Whether that is everything."""
    graph = program.structure.graph
    complete = True
    for value in (*graph.value_info, *graph.output):
        if value.name in known.found or value.type.WhichOneof("value") != "tensor_type":
            continue
        tensor = value.type.tensor_type
        if tensor.elem_type:
            known.dtypes[value.name] = _dtype_name(tensor.elem_type)
        sizes = [dim.dim_value if dim.HasField("dim_value") else symbols.get(dim.dim_param, -1) for dim in tensor.shape.dim]
        if tensor.HasField("shape") and min(sizes, default=0) >= 0:
            known.found[value.name] = tuple(sizes)
    complete = all(name in known.found for node in program.nodes for name in node.output if name)
    return complete


def _inferred(program: Program, known: Shapes) -> None:
    """ONNX's own inference, on inputs of concrete shape. Big tensors take part by shape alone."""
    for value in _values(program, known.found):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            known.dtypes.setdefault(value.name, _dtype_name(tensor.elem_type))
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            known.found.setdefault(value.name, tuple(dim.dim_value for dim in tensor.shape.dim))


def resizable(program: Program) -> frozenset[str]:
    """The values of which it is known that some dimension is, or is computed from, a symbolic one of the inputs."""
    graph = program.structure.graph
    symbols = {dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim if dim.dim_param}
    if not symbols:
        return frozenset()
    found = set()
    for value in (*graph.input, *graph.value_info, *_values(program, {})):
        names = {name for dim in value.type.tensor_type.shape.dim for name in re.findall(r"\w+", dim.dim_param)}
        if names & symbols:
            found.add(value.name)
    return frozenset(found)


def _values(program: Program, sizes: Mapping[str, Shape]) -> list[onnx.ValueInfoProto]:
    """What ONNX infers about the program's values; `sizes` replace the shapes of its inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(program.structure)
    for value in model.graph.input:
        if value.name in sizes:
            _fix(value, sizes[value.name])
    model.graph.ClearField("value_info")
    for value in model.graph.output:  # symbols in declared outputs would clash with the sizes found
        value.type.tensor_type.ClearField("shape")
    model.graph.node.extend(program.nodes)
    for name, tensor in program.tensors.items():
        model.graph.initializer.append(tensor.proto(name) if tensor.nbytes <= 1024 else tensor.header(name))
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
    except Exception:  # what inference can't do, running the model will
        return []
    return [*model.graph.value_info, *model.graph.output]


def _fix(value: onnx.ValueInfoProto, shape: Shape) -> None:
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    tensor.shape.SetInParent()
    for size in shape:
        tensor.shape.dim.add().dim_value = size
