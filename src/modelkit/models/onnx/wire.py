"""ONNX files read and written without their weights ever passing through a protobuf object.

A file is a protobuf message; nearly all of it is the `raw_data` of the main graph's initializers. Parsing it the usual way holds
the weights two or three times. Here the file is memory-mapped and its outermost fields are walked by hand: the weights become
views of the map, and only the rest is parsed. Writing goes the other way. Encoding: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from modelkit.core.forms import Array

from .tensors import Tensor

# Field numbers of onnx.proto.
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9
_VARINT, _LENGTH_DELIMITED = 0, 2


class Initializer(NamedTuple):
    """`header` says everything but the data; `raw` is the data, a view of the mapped file, and `offset` where it lies there. None
    where the data lies elsewhere: in another field of the header, or in an external file."""

    header: onnx.TensorProto
    raw: Array | None = None
    offset: int = 0


class WireError(ValueError):
    """The bytes are not a whole protobuf message."""


def read(path: Path) -> tuple[onnx.ModelProto, list[Initializer]]:
    """The model without its main graph's initializers, and those. Raises WireError."""
    raw = np.memmap(path, np.uint8, "r")
    view = raw.data
    model_parts, graph_parts = [], []
    initializers: list[Initializer] = []
    try:
        for field, tag, start, end in _fields(view, 0, len(view)):
            if field != MODEL_GRAPH:
                model_parts.append(bytes(view[tag:end]))
                continue
            for inner, inner_tag, inner_start, inner_end in _fields(view, start, end):
                if inner == GRAPH_INITIALIZER:
                    initializers.append(_initializer(view, raw, inner_start, inner_end))
                else:
                    graph_parts.append(view[inner_tag:inner_end])
        model = onnx.ModelProto.FromString(b"".join(model_parts))
        model.graph.MergeFromString(b"".join(graph_parts))
    except (IndexError, DecodeError) as error:
        raise WireError(str(error)) from error
    return model, initializers


def begins_a_model(path: Path) -> bool:
    """Whether the first byte is the tag of a field that a model has; text is nothing of that kind."""
    with path.open("rb") as file:
        tag = file.read(1)[0]
    field = onnx.ModelProto.DESCRIPTOR.fields_by_number.get(tag >> 3)
    return field is not None and tag & 7 == (_VARINT if field.cpp_type == field.CPPTYPE_INT64 else _LENGTH_DELIMITED)


def _initializer(view: memoryview, raw: Array, start: int, end: int) -> Initializer:
    header, data, offset = [], None, 0
    for field, tag, value, stop in _fields(view, start, end):
        if field == TENSOR_RAW_DATA:
            data, offset = np.asarray(raw[value:stop]), value
        else:
            header.append(bytes(view[tag:stop]))
    return Initializer(onnx.TensorProto.FromString(b"".join(header)), data, offset)


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, start of its tag, start of its value, end) for each field of the message in view[start:end]."""
    at = start
    while at < end:
        tag_at = at
        tag, at = _varint(view, at)
        kind = tag & 7
        value_at = at
        if kind == 0:
            _, at = _varint(view, at)
        elif kind == 1:
            at += 8
        elif kind == _LENGTH_DELIMITED:
            length, value_at = _varint(view, at)
            at = value_at + length
        elif kind == 5:
            at += 4
        else:
            raise WireError(f"unknown wire type {kind}")
        if at > end or tag >> 3 == 0:
            raise WireError("a field ends behind the end of its message")
        yield tag >> 3, tag_at, value_at, at


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise WireError("a number is too long")


def _encode(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _opening(field: int, length: int) -> bytes:
    return _encode(field << 3 | _LENGTH_DELIMITED) + _encode(length)


def write(file: BinaryIO, structure: onnx.ModelProto, tensors: Mapping[str, Tensor]) -> None:
    """Write `structure` with `tensors` as initializers of its main graph, their data inside the file, one after another."""
    rest = onnx.ModelProto()
    rest.CopyFrom(structure)
    rest.ClearField("graph")
    graph = structure.graph.SerializeToString()
    heads = []
    for name, tensor in tensors.items():
        head = tensor.header(name).SerializeToString() + _opening(TENSOR_RAW_DATA, tensor.nbytes)
        heads.append(_opening(GRAPH_INITIALIZER, len(head) + tensor.nbytes) + head)
    size = len(graph) + sum(map(len, heads)) + sum(tensor.nbytes for tensor in tensors.values())
    file.write(rest.SerializeToString())
    file.write(_opening(MODEL_GRAPH, size))
    file.write(graph)
    for head, tensor in zip(heads, tensors.values(), strict=True):
        file.write(head)
        file.write(np.ascontiguousarray(tensor.raw).data)
