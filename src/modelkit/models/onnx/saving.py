"""A program to a file, its tensors one after another, never all in memory at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from . import wire
from .program import Program
from .tensors import Tensor, forget

_INSIDE_LIMIT = 1_800_000_000  # protobuf messages end at 2 GB
_INLINE_BYTES = 1024
_PAGE, _ROW = 4096, 64  # external tensors start on pages, so that runtimes can map them; little ones would waste them


def save(program: Program, path: Path, external: bool) -> None:
    """Write `path`, and `<path>.data` beside it when `external` or when the tensors don't fit into one file."""
    structure = onnx.ModelProto()
    structure.CopyFrom(program.structure)
    structure.graph.node.extend(program.nodes)
    inside = program.tensors
    if external or sum(tensor.nbytes for tensor in program.tensors.values()) > _INSIDE_LIMIT:
        data = path.with_name(path.name + ".data")
        inside = {name: tensor for name, tensor in program.tensors.items() if tensor.nbytes < _INLINE_BYTES}
        _write_data(structure, {name: tensor for name, tensor in program.tensors.items() if name not in inside}, data)
    with path.open("wb") as file:
        wire.write(file, structure, inside)
    forget(tensor.raw for tensor in program.tensors.values())


def _write_data(structure: onnx.ModelProto, tensors: dict[str, Tensor], data: Path) -> None:
    with data.open("wb") as file:
        for name, tensor in tensors.items():
            file.write(b"\0" * (-file.tell() % (_ROW if tensor.nbytes < 16 * _PAGE else _PAGE)))
            header = tensor.header(name)
            header.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", str(file.tell())), ("length", str(tensor.nbytes))):
                header.external_data.add(key=key, value=value)
            structure.graph.initializer.append(header)
            file.write(np.ascontiguousarray(tensor.raw).data)
