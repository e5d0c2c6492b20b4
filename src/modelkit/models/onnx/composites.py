"""Layers that a quantiser wrote as several nodes or as one contributed operator, found again when such a file is opened."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx

from modelkit.core.forms import Array
from modelkit.core.graph import Kind, Parameter

from . import constants
from .layers import Site
from .program import Program, attributes, leading_to
from .session import run_nodes
from .shapes import Shapes

_QUANTISED = "already quantised"
# What may follow a look-up of stored rows until they are floats.
_UNPACKING = frozenset(("Cast", "Sub", "Mul", "Add", "BitShift", "Reshape", "Slice", "DequantizeLinear", "Gather", "Concat"))
_CODES = ("int8", "uint8", "int4", "uint4")


def find(program: Program, shapes: Shapes) -> dict[str, Site]:
    """Sites by the name of the ONNX node that holds the weight."""
    finders = {
        "MatMulInteger": _integer_product,
        "ConvInteger": _integer_product,
        "MatMulNBits": _blocked_linear,
        "Gather": _stored_table,
        "QLinearConv": _integer_operator,
        "QLinearMatMul": _integer_operator,
        "QGemm": _integer_operator,
    }
    found: dict[str, Site] = {}
    members: set[str] = set()
    for node in program.nodes:
        if node.op_type in finders and node.name not in members:
            site = finders[node.op_type](program, shapes, node)
            if site is not None:
                found[node.name] = site
                members.update(site.members)
    return found


def quantisers(program: Program, found: dict[str, Site]) -> set[str]:
    """DynamicQuantizeLinear nodes that only found layers read: they are part of those."""
    members = {member for site in found.values() for member in site.members}
    return {
        node.name
        for node in program.nodes
        if node.op_type == "DynamicQuantizeLinear"
        and all(r.name in members for out in node.output for r in program.readers.get(out, ()))
    }


def _integer_product(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site | None:
    """MatMulInteger or ConvInteger with a constant weight, and the nodes around it where those are the usual ones."""
    shape = shapes.found.get(node.input[1])
    if node.input[1] not in program.constants or shape is None or (node.op_type == "MatMulInteger" and len(shape) != 2):
        return None
    found = _dynamic_product(program, shapes, node)
    if found is None:  # what its codes stand for is not known
        conv = node.op_type == "ConvInteger"
        codes = constants.storage(program, node.input[1])
        kind: Kind = "conv" if conv else "linear"

        def read() -> Array:
            array = constants.evaluate(program, node.input[1]).astype(np.float32)
            return array if conv else array.T

        sizes, form = shape if conv else shape[::-1], "int8 per-tensor"
        stored = list(codes.tensors)
        found = _site(program, shapes, (node.name,), (node.input[0],), node.output[0], sizes, form, stored, read, None, kind)
    return found


def _dynamic_product(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site | None:
    """DynamicQuantizeLinear → MatMulInteger or ConvInteger → Cast → Mul by both scales → Add of the bias."""
    quantiser = program.producer.get(node.input[0])
    cast = program.only_reader(node.output[0])
    if quantiser is None or quantiser.op_type != "DynamicQuantizeLinear":
        return None
    scaled = program.only_reader(cast.output[0]) if cast is not None and cast.op_type == "Cast" else None
    if cast is None or scaled is None or scaled.op_type != "Mul":
        return None
    scales = program.producer.get(next(name for name in scaled.input if name != cast.output[0]))
    if scales is None or scales.op_type != "Mul" or quantiser.output[1] not in scales.input:
        return None
    scale = next((name for name in scales.input if name in program.constants), None)
    if scale is None:
        return None
    members, output, bias = [node.name, cast.name, scales.name, scaled.name], scaled.output[0], None
    adder = program.only_reader(output)
    if (
        adder is not None
        and adder.op_type == "Add"
        and len(constant := [name for name in adder.input if name in program.constants]) == 1
    ):
        members.append(adder.name)
        output, bias = adder.output[0], constant[0]
    zero = node.input[3] if len(node.input) > 3 else ""
    shape, conv = shapes.found[node.input[1]], node.op_type == "ConvInteger"

    def read() -> Array:
        codes = constants.evaluate(program, node.input[1]).astype(np.float32)
        along = (-1, *[1] * (codes.ndim - 1)) if conv else (-1,)
        if zero:
            codes -= constants.evaluate(program, zero).astype(np.float32).reshape(along)
        dense: Array = codes * constants.evaluate(program, scale).reshape(along)
        return dense if conv else dense.T

    stored = [name for value in (node.input[1], scale, zero) if value for name in constants.storage(program, value).tensors]
    form = _grids(shapes, scale)
    kind: Kind = "conv" if conv else "linear"
    shape = shape if conv else shape[::-1]
    return _site(program, shapes, tuple(members), (quantiser.input[0],), output, shape, form, stored, read, bias, kind)


def _grids(shapes: Shapes, scale: str) -> str:
    return f"int8 {'per-tensor' if prod(shapes.found.get(scale, ())) == 1 else 'per-channel'}"


def _integer_operator(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site | None:
    """QLinearConv, QLinearMatMul, QGemm: codes, scale and zero point of the weight are inputs 3 to 5."""
    codes, scale, zero = node.input[3:6]
    shape = shapes.found.get(codes)
    if not {codes, scale, zero} <= program.constants or shape is None or (node.op_type != "QLinearConv" and len(shape) != 2):
        return None
    conv = node.op_type == "QLinearConv"
    transposed = not conv and not attributes(node).get("transB")

    def read() -> Array:
        array, step, offset = (constants.evaluate(program, name) for name in (codes, scale, zero))
        along = (-1, *[1] * (array.ndim - 1)) if not transposed else (-1,)
        dense = (array.astype(np.float32) - offset.reshape(along)) * step.reshape(along)
        return dense.T if transposed else dense

    stored = [name for value in (codes, scale, zero) for name in constants.storage(program, value).tensors]
    site = _site(
        program,
        shapes,
        (node.name,),
        (node.input[0],),
        node.output[0],
        shape[::-1] if transposed else shape,
        _grids(shapes, scale),
        stored,
        read,
        None,
        "conv" if conv else "linear",
    )
    weight = site.parameters["weight"]
    site.parameters["weight"] = Parameter(weight.name, weight.shape, "float32", weight.bytes, weight.form, weight.stored)
    return site


def _blocked_linear(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site | None:
    """com.microsoft MatMulNBits: rows of blocks, each with its scale (and zero point)."""
    given = attributes(node)
    bits, block = int(given.get("bits", 4)), int(given["block_size"])  # type: ignore[call-overload]
    shape = (int(given["N"]), int(given["K"]))  # type: ignore[call-overload]
    packed = [name for name in node.input[1:4] if name]
    if not all(name in program.constants for name in packed) or len(node.input) > 4 and node.input[4]:
        return None

    def read() -> Array:
        identity = np.eye(shape[1], dtype=np.float32)
        product = onnx.NodeProto()
        product.CopyFrom(node)
        product.ClearField("input")
        product.input.extend(["identity", *node.input[1:4]])
        feeds = {"identity": identity, **{name: constants.evaluate(program, name) for name in packed}}
        return run_nodes(program, [product], feeds, [node.output[0]])[0].T

    stored = [name for value in packed for name in constants.storage(program, value).tensors]
    bias = node.input[5] if len(node.input) > 5 else None
    members, output = [node.name], node.output[0]
    adder = program.only_reader(output)
    if bias is None and adder is not None and adder.op_type == "Add":
        constant = [name for name in adder.input if name in program.constants]
        if len(constant) == 1 and shapes.found.get(constant[0]) == shape[:1]:
            members.append(adder.name)
            output, bias = adder.output[0], constant[0]
    return _site(program, shapes, tuple(members), (node.input[0],), output, shape, f"int{bits} g{block}", stored, read, bias)


def _stored_table(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site | None:
    """Rows looked up as they are stored, then made floats."""
    table, index = node.input[0], node.input[1]
    if table not in program.constants or index in program.constants or shapes.dtypes.get(table) not in _CODES:
        return None
    nodes, output = _region(program, shapes, node)
    shape = shapes.found.get(output)
    if not shapes.dtypes.get(output, "").startswith("float") or shape is None:
        return None
    rows = shapes.found[table][0]
    rank = len(shapes.found.get(index, (1,)))
    stored = list(
        dict.fromkeys(n for m in nodes for v in m.input if v in program.constants for n in constants.storage(program, v).tensors)
    )
    bits = 4 if "4" in shapes.dtypes[table] else 8

    def read() -> Array:
        everything = np.arange(rows, dtype=np.int64).reshape(*[1] * (rank - 1), rows)
        feeds = {name: constants.evaluate(program, name) for m in nodes for name in m.input if name in program.constants}
        return run_nodes(program, nodes, {**feeds, index: everything}, [output])[0].reshape(rows, -1)

    members = tuple(member.name for member in nodes)
    return _site(
        program, shapes, members, (index,), output, (rows, shape[-1]), f"int{bits} per-channel", stored, read, None, "embedding"
    )


def _region(program: Program, shapes: Shapes, lookup: onnx.NodeProto) -> tuple[list[onnx.NodeProto], str]:
    """The nodes from the look-up of stored rows to their value as floats, and that value.

    It ends with DequantizeLinear or with a Cast of floats, else where other operators than those of unpacking begin."""
    index, output = lookup.input[1], lookup.output[0]
    inside: set[str] = set()
    members: list[onnx.NodeProto] = []
    for node in program.nodes:
        varying = [name for name in node.input if name and name not in program.constants]
        beside = node.op_type == "Gather" and varying == [index] and node.input[0] in program.constants
        if not beside and not (node.op_type in _UNPACKING and varying and inside.issuperset(varying)):
            continue
        members.append(node)
        if output in varying or node is lookup or (not beside and output not in inside):
            output = node.output[0]
        if node.op_type == "DequantizeLinear" or (node.op_type == "Cast" and "float" in shapes.dtypes.get(varying[0], "")):
            output = node.output[0]
            break
        inside.add(node.output[0])
    return leading_to([output], members)[0], output


def _site(
    program: Program,
    shapes: Shapes,
    members: tuple[str, ...],
    inputs: tuple[str, ...],
    output: str,
    shape: tuple[int, ...],
    form: str,
    stored: list[str],
    read: Callable[[], Array],
    bias: str | None,
    kind: Kind = "linear",
) -> Site:
    stored = list(dict.fromkeys(stored))
    size = sum(program.tensors[name].nbytes for name in stored)
    site = Site(members, "fixed", inputs, output, skip=_QUANTISED, kind=kind)
    site.parameters["weight"] = Parameter(stored[0], shape, shapes.dtypes.get(output, "float32"), size, form, tuple(stored))
    site.read["weight"] = read
    if bias:
        kept = constants.storage(program, bias)
        site.parameters["bias"] = Parameter(
            kept.root, (prod(shapes.found[bias]),), "float32", kept.bytes, kept.form, kept.tensors
        )
        site.read["bias"] = lambda: constants.evaluate(program, bias).reshape(-1)
    return site
