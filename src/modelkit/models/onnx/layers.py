"""Which nodes of an ONNX program are layers, where their parameters come in, and how those look in the neutral layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import onnx

from modelkit.core.forms import Array
from modelkit.core.graph import Kind, Parameter, Shape

from . import constants
from .program import Program, attributes, reads
from .shapes import Shapes

Style = Literal["matmul", "gemm", "conv", "gather", "norm", "fixed"]  # how lowering writes the layer; fixed: it can't


@dataclass(frozen=True)
class Site:
    """One layer as ONNX nodes. `members` are their names, in order; the first has the weight as its input `slot`.

    The operand there is the neutral weight, transposed when `transposed`. `bias`: the node and input where the bias comes in.
    """

    members: tuple[str, ...]
    style: Style
    inputs: tuple[str, ...]
    output: str
    slot: int = 1
    transposed: bool = False
    bias: tuple[str, int] | None = None
    skip: str | None = None
    kind: Kind | None = None  # where the operator's name does not say it
    parameters: dict[str, Parameter] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)  # the program's constant that each parameter is
    read: dict[str, Callable[[], Array]] = field(default_factory=dict)


def parameter(
    program: Program, shapes: Shapes, value: str, transposed: bool = False
) -> tuple[Parameter, Callable[[], Array]] | None:
    """A constant as a parameter, and how to read it; None when its shape is not known."""
    shape = shapes.found.get(value)
    if shape is None:
        shape = constants.evaluate(program, value).shape
    stored = constants.storage(program, value)
    axes = constants.axes(program, value, len(shape))
    shown = Parameter(
        stored.root or value,
        shape[::-1] if transposed else shape,
        shapes.dtypes.get(value, "float32"),
        stored.bytes,
        stored.form,
        stored.tensors,
        axes[::-1] if axes and transposed else axes,
    )

    def read() -> Array:
        array = constants.evaluate(program, value)
        return array.T if transposed else array

    return shown, read


def _add(program: Program, shapes: Shapes, site: Site, role: str, value: str, transposed: bool = False) -> None:
    found = parameter(program, shapes, value, transposed)
    if found is not None:
        site.parameters[role], site.read[role] = found
        site.values[role] = value


def linear(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site | None:
    """MatMul or Gemm with a constant right operand of two dimensions; a vector added right behind a MatMul is its bias."""
    if len(node.input) < 2 or node.input[1] not in program.constants or node.input[0] in program.constants:
        return None
    if len(shapes.found.get(node.input[1], ())) != 2:
        return None
    if node.op_type == "Gemm":
        return _gemm(program, shapes, node)
    adder, slot = _bias_add(program, shapes, node)
    number = shapes.dtypes.get(node.input[1], "")
    site = Site(
        members=(node.name, adder.name) if adder else (node.name,),
        style="matmul",
        inputs=(node.input[0],),
        output=adder.output[0] if adder else node.output[0],
        transposed=True,
        bias=(adder.name, slot) if adder else None,
        skip=None if "float" in number else f"its weight is {number}",
    )
    _add(program, shapes, site, "weight", node.input[1], transposed=True)
    if adder:
        _add_bias(program, shapes, site, adder.input[slot])
    return site


def _gemm(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site:
    given = attributes(node)
    out = shapes.found[node.input[1]][0 if given.get("transB") else 1]
    addend = node.input[2] if len(node.input) > 2 and node.input[2] else None
    own_bias = addend in program.constants and _is_vector(shapes.found.get(addend or ""), out)
    scaled = given.get("alpha", 1.0) != 1.0 or (addend is not None and given.get("beta", 1.0) != 1.0) or given.get("transA")
    site = Site(
        members=(node.name,),
        style="gemm",
        inputs=(node.input[0],) if own_bias or addend is None or addend in program.constants else (node.input[0], addend),
        output=node.output[0],
        transposed=not given.get("transB"),
        bias=(node.name, 2) if own_bias else None,
        skip="its Gemm scales or transposes its operands"
        if scaled
        else "its Gemm adds a matrix"
        if addend and not own_bias
        else None,
    )
    _add(program, shapes, site, "weight", node.input[1], transposed=not given.get("transB"))
    if own_bias and addend:
        _add_bias(program, shapes, site, addend)
    return site


def _is_vector(shape: Shape | None, size: int) -> bool:
    return bool(shape) and shape is not None and shape[-1] == size and all(n == 1 for n in shape[:-1])


def _bias_add(program: Program, shapes: Shapes, node: onnx.NodeProto) -> tuple[onnx.NodeProto | None, int]:
    """The Add of a constant vector that alone reads this product, and at which of its inputs the vector is."""
    adder = program.only_reader(node.output[0])
    if adder is None or adder.op_type != "Add":
        return None, 0
    slot = 1 if adder.input[0] == node.output[0] else 0
    shape, product = shapes.found.get(adder.input[slot]), shapes.found.get(node.output[0])
    vector = adder.input[slot] in program.constants and _is_vector(shape, shapes.found[node.input[1]][1])
    if not vector or shape is None or len(shape) > (1 if product is None else len(product)):
        return None, 0
    return adder, slot


def _add_bias(program: Program, shapes: Shapes, site: Site, value: str) -> None:
    """The bias as a vector, whatever ones its shape has besides."""
    found = parameter(program, shapes, value)
    if found is None:
        return
    shown, read = found
    site.parameters["bias"] = Parameter(shown.name, (shown.size,), shown.dtype, shown.bytes, shown.form, shown.stored)
    site.read["bias"] = lambda: read().reshape(-1)
    site.values["bias"] = value


def convolution(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site:
    """Conv or ConvTranspose; numbers per channel that are added right behind one without a bias are its bias."""
    own = node.input[1] in program.constants
    given = node.input[2] if len(node.input) > 2 and node.input[2] else None
    adder, slot = _channel_add(program, shapes, node) if own and given is None else (None, 0)
    bias = (adder.name, slot) if adder else (node.name, 2) if given in program.constants else None
    reason = None if own and (given is None or bias) else "its weight is computed at run time"
    site = Site(
        members=(node.name, adder.name) if adder else (node.name,),
        style="conv",
        inputs=tuple(name for name in node.input if name and name not in program.constants),
        output=adder.output[0] if adder else node.output[0],
        bias=bias,
        skip="its activation is fused into it" if node.op_type == "FusedConv" else reason,
    )
    if own:
        _add(program, shapes, site, "weight", node.input[1])
    if bias:
        _add_bias(program, shapes, site, adder.input[slot] if adder else node.input[2])
    return site


def _channel_add(program: Program, shapes: Shapes, node: onnx.NodeProto) -> tuple[onnx.NodeProto | None, int]:
    """The Add of a constant (…, channels, 1, …, 1) that alone reads this convolution, and at which of its inputs that is."""
    adder, out = program.only_reader(node.output[0]), shapes.found.get(node.output[0])
    if adder is None or adder.op_type != "Add" or out is None:
        return None, 0
    slot = 1 if adder.input[0] == node.output[0] else 0
    shape = shapes.found.get(adder.input[slot])
    if adder.input[slot] not in program.constants or shape is None or len(shape) > len(out):
        return None, 0
    return (adder, slot) if (1,) * (len(out) - len(shape)) + shape == (1, out[1], *[1] * (len(out) - 2)) else (None, 0)


def embedding(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site | None:
    """Gather of rows from a constant table of floats."""
    table, index = node.input[0], node.input[1]
    if table not in program.constants or index in program.constants or len(shapes.found.get(table, ())) != 2:
        return None
    if "float" not in shapes.dtypes.get(table, "") or attributes(node).get("axis", 0) != 0:
        return None
    site = Site((node.name,), "gather", (index,), node.output[0], slot=0)
    _add(program, shapes, site, "weight", table)
    return site


def recurrent(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site:
    site = Site(
        (node.name,),
        "fixed",
        tuple(n for n in node.input if n and n not in program.constants),
        node.output[0],
        skip="recurrent operator",
    )
    for role, slot in (("weight", 1), ("weight_hidden", 2), ("bias", 3)):
        if len(node.input) > slot and node.input[slot] in program.constants:
            _add(program, shapes, site, role, node.input[slot])
    return site


def norm(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site:
    """Parameters by the place where the operator expects them."""
    roles = {
        "BatchNormalization": ("weight", "bias", "mean", "variance"),
        "SkipLayerNormalization": (None, "weight", "bias", "constant"),
        "SkipSimplifiedLayerNormalization": (None, "weight", "constant"),
    }.get(node.op_type, ("weight", "bias"))
    own = node.op_type == "BatchNormalization" and program.constants >= {*node.input[1:3]}
    site = Site(
        (node.name,),
        "norm" if own else "fixed",
        tuple(n for n in node.input if n and n not in program.constants),
        node.output[0],
        bias=(node.name, 2) if own else None,
    )
    for role, name in zip(roles, node.input[1:], strict=False):
        if role and name in program.constants:
            _add(program, shapes, site, role, name)
    return site


# Operators whose constant floats steer them and are no parameters.
_STEERED = frozenset(("Resize", "Upsample", "QuantizeLinear", "DequantizeLinear", "Pad", "Clip", "OneHot", "Range"))


def other(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site:
    """Any other node. The arrays of floats that it reads and that are constant are parameters too."""
    site = Site(
        (node.name,), "fixed", tuple(name for name in reads(node) if name not in program.constants), next(iter(node.output), "")
    )
    held = (
        []
        if node.op_type in _STEERED
        else [n for n in node.input if n in program.constants and "float" in shapes.dtypes.get(n, "")]
    )
    for index, name in enumerate(name for name in held if prod(shapes.found.get(name, ())) > 1):
        _add(program, shapes, site, "constant" if index == 0 else f"constant_{index + 1}", name)
    return site
