"""From a file to a Program: every way an ONNX file may be written is brought to one, and what can't be used is told."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array

from . import wire
from .old_opsets import OLDEST_OPSET, converted
from .program import Program, in_order, leading_to, subgraphs
from .tensors import Place, Tensor, stored_bytes
from .wire import Initializer

_STANDARD = ("", "ai.onnx")
_KNOWN_DOMAINS = (
    *_STANDARD,
    "ai.onnx.ml",
    "ai.onnx.training",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.nchwc",
)


def load(path: Path) -> Program:
    """Open an ONNX file. Raises ModelkitError for what is missing, broken, not a model, or needs unknown operators."""
    if not path.exists():
        raise ModelkitError(f"{path} does not exist.", "Check the path.")
    if path.is_dir():
        raise ModelkitError(f"{path} is a folder, not an ONNX file.", "Name the .onnx file in it.")
    if path.stat().st_size == 0:
        raise ModelkitError(f"{path} is empty.", "Export or download the model again.")
    try:
        model, initializers = wire.read(path)
    except PermissionError as error:
        raise ModelkitError(f"{path} can't be read: permission denied.", "Change the file's permissions.") from error
    except wire.WireError as error:
        if not wire.begins_a_model(path):
            raise ModelkitError(f"{path} is not an ONNX model.", "Give a file written by an ONNX exporter.") from error
        raise ModelkitError(
            f"{path} is not a whole ONNX file ({error}).", "It may be truncated or of another format: export it again."
        ) from error
    return _program(model, initializers, path, path.parent)


def from_proto(model: onnx.ModelProto, path: Path, base_dir: Path) -> Program:
    """The same for a model in memory. `path` is what messages call it; external data is looked for in `base_dir`."""
    structure = onnx.ModelProto()
    structure.CopyFrom(model)
    initializers = [Initializer(proto) for proto in model.graph.initializer]
    structure.graph.ClearField("initializer")
    return _program(structure, initializers, path, base_dir)


def _program(model: onnx.ModelProto, initializers: Iterable[Initializer], path: Path, base: Path) -> Program:
    if not model.opset_import or not (model.graph.node or model.graph.output):
        raise ModelkitError(f"{path} is not an ONNX model.", "Give a file written by an ONNX exporter.")
    _check_text(model, path)
    tensors: dict[str, Tensor] = {}
    data_files: dict[Path, None] = {}
    for initializer in initializers:
        proto = initializer.header
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            data_files[base / _location(proto, path)] = None
        if proto.data_type == onnx.TensorProto.STRING:
            model.graph.initializer.append(proto)
        else:
            tensors[proto.name] = _tensor(initializer, path, base)
    _refuse_unknown_operators(model, path)
    if model.functions:
        from onnx.inliner import inline_local_functions  # not part of what `import onnx` brings

        model = inline_local_functions(model)
    version = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), None)
    if version is not None and version < OLDEST_OPSET:
        model, tensors = converted(model, tensors, version, path)
    model.ir_version = max(model.ir_version, 4)  # before 4, initializers had to be inputs too
    _drop_constant_inputs(model, tensors)
    nodes = _lift_constants(model.graph.node, tensors)
    try:
        nodes = in_order(nodes)
    except ValueError as error:
        raise ModelkitError(f"{path} is broken: {error}.", "Export the model again.") from error
    _check_inputs_exist(model, nodes, tensors, path)
    nodes, needed = leading_to([value.name for value in model.graph.output], nodes)
    tensors = {name: tensor for name, tensor in tensors.items() if name in needed}
    structure = onnx.ModelProto()
    structure.CopyFrom(model)
    structure.graph.ClearField("node")
    opaque = {proto.name for proto in structure.graph.initializer} | {
        sparse.values.name for sparse in structure.graph.sparse_initializer
    }
    return Program(structure, tuple(_named(nodes)), tensors, frozenset(opaque), tuple(data_files))


def _tensor(initializer: Initializer, path: Path, base: Path) -> Tensor:
    proto, raw, place = initializer.header, initializer.raw, None
    shape = tuple(proto.dims)
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raw, place = _external(proto, path, base)
    elif raw is None:
        raw = Tensor.from_proto(proto).raw
    else:
        place = Place.at(path, initializer.offset)
    if raw.nbytes != stored_bytes(proto.data_type, shape):
        raise ModelkitError(
            f"{path} is broken: its tensor {proto.name!r} has {raw.nbytes} bytes where its shape {list(shape)} needs"
            f" {stored_bytes(proto.data_type, shape)}.",
            "Export or download the model again.",
        )
    return Tensor(proto.data_type, shape, raw, place)


def _external(proto: onnx.TensorProto, path: Path, base: Path) -> tuple[Array, Place | None]:
    entries = {entry.key: entry.value for entry in proto.external_data}
    file = base / _location(proto, path)
    if not file.is_file():
        raise ModelkitError(f"{path} needs the external data file {file}, which does not exist.", "Copy it beside the model.")
    offset = int(entries.get("offset") or 0)
    length = int(entries.get("length") or stored_bytes(proto.data_type, tuple(proto.dims)))
    if offset + length > file.stat().st_size:
        raise ModelkitError(
            f"{file} is too short for the tensor {proto.name!r} of {path}.", "Copy or export the model's data again."
        )
    if length == 0:
        return np.empty(0, np.uint8), None
    return np.asarray(np.memmap(file, np.uint8, "r", offset, (length,))), Place.at(file, offset)


def _location(proto: onnx.TensorProto, path: Path) -> str:
    """Where an external tensor is, relative to the model. A file must not make us read anything else."""
    location = next((entry.value for entry in proto.external_data if entry.key == "location"), "")
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise ModelkitError(
            f"{path} keeps its tensor {proto.name!r} at {location!r}, outside of its own folder.",
            "Export it with its data beside it.",
        )
    return location


def _check_text(model: onnx.ModelProto, path: Path) -> None:
    """Protobuf gives names that are no text as bytes."""
    graph = model.graph
    texts = [value.name for value in (*graph.input, *graph.output, *graph.value_info)]
    texts += [text for node in graph.node for text in (node.name, node.op_type, node.domain, *node.input, *node.output)]
    for text in texts:
        if isinstance(text, bytes):
            raise ModelkitError(f"{path} is broken: {text!r} is no name.", "Export or download the model again.")


def _refuse_unknown_operators(model: onnx.ModelProto, path: Path) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while nodes:
        node = nodes.pop()
        for graph in subgraphs(node):
            nodes.extend(graph.node)
        if (node.domain, node.op_type) in own or (node.domain in _KNOWN_DOMAINS and not _missing_standard(node)):
            continue
        where = f" of the domain {node.domain!r}" if node.domain not in _STANDARD else ""
        raise ModelkitError(
            f"{path} needs the operator {node.op_type!r}{where}, which is not part of ONNX.",
            "Export the model without custom operators, or with them as model-local functions.",
        )


# Contributed operators that old exporters wrote into the standard domain; ONNX Runtime still runs them.
_CONTRIBUTED = frozenset(
    "Affine Crop DynamicSlice GroupNormalization ImageScaler LayerNormalization ParametricSoftplus ScaledTanh"
    " SimplifiedLayerNormalization ThresholdedRelu ATen FusedConv GivenTensorFill".split()
)


def _missing_standard(node: onnx.NodeProto) -> bool:
    return node.domain in _STANDARD and not onnx.defs.has(node.op_type) and node.op_type not in _CONTRIBUTED


def _drop_constant_inputs(model: onnx.ModelProto, tensors: dict[str, Tensor]) -> None:
    real = [value for value in model.graph.input if value.name not in tensors]
    if len(real) < len(model.graph.input):
        model.graph.ClearField("input")
        model.graph.input.extend(real)


def _lift_constants(nodes: Iterable[onnx.NodeProto], tensors: dict[str, Tensor]) -> list[onnx.NodeProto]:
    """Turn Constant nodes into tensors; those that hold strings or sparse tensors stay."""
    kept = []
    for node in nodes:
        tensor = _constant(node) if node.op_type == "Constant" and node.domain in _STANDARD else None
        if tensor is None:
            kept.append(node)
        else:
            tensors[node.output[0]] = tensor
    return kept


def _constant(node: onnx.NodeProto) -> Tensor | None:
    attribute = node.attribute[0] if node.attribute else None
    if attribute is None:
        return None
    if attribute.name == "value":
        external = attribute.t.data_location == onnx.TensorProto.EXTERNAL
        return None if external or attribute.t.data_type == onnx.TensorProto.STRING else Tensor.from_proto(attribute.t)
    if attribute.name in ("value_float", "value_floats"):
        return Tensor.of(np.array(onnx.helper.get_attribute_value(attribute), np.float32))
    if attribute.name in ("value_int", "value_ints"):
        return Tensor.of(np.array(onnx.helper.get_attribute_value(attribute), np.int64))
    return None


def _check_inputs_exist(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], tensors: dict[str, Tensor], path: Path) -> None:
    known = set(tensors) | {value.name for value in model.graph.input} | {proto.name for proto in model.graph.initializer}
    known |= {sparse.values.name for sparse in model.graph.sparse_initializer} | {""}
    for node in nodes:
        for name in node.input:
            if name not in known:
                raise ModelkitError(
                    f"{path} is broken: {node.op_type} {node.name!r} reads {name!r}, which nothing computes.",
                    "Export the model again.",
                )
        known.update(node.output)
    for value in model.graph.output:
        if value.name not in known:
            raise ModelkitError(f"{path} is broken: nothing computes its output {value.name!r}.", "Export the model again.")


def _named(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """The nodes with unique names; those without one are called after their operator and place. Optional inputs left out at the
    end are really left out: written as "", they can crash ONNX Runtime's optimiser (1.32, LayerNormalization)."""
    used: set[str] = set()
    for index, node in enumerate(nodes):
        name = node.name or f"{node.op_type}_{index}"
        while name in used:
            name += "_"
        used.add(name)
        if name != node.name or (node.input and not node.input[-1]):
            changed = onnx.NodeProto()
            changed.CopyFrom(node)
            changed.name = name
            while changed.input and not changed.input[-1]:
                changed.input.pop()
            node = changed
        yield node
