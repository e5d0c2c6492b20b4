"""The neutral graph of an ONNX program, and the site of each of its nodes in the program."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx

from modelkit.core.graph import HIDDEN, PRODUCT_KINDS, Edge, Graph, Kind, Node, Shape

from . import composites, constants, layers
from .kinds import kind_of
from .layers import Site
from .program import Program, attributes
from .shapes import Shapes


@dataclass(frozen=True)
class View:
    """`sites` by the neutral node's name."""

    graph: Graph
    sites: Mapping[str, Site]


def build(program: Program, shapes: Shapes, forms: Mapping[str, str], names: Mapping[str, str] | None = None) -> View:
    """`forms`: what the file's metadata says about how layers are stored; it knows more than the tensors' types do. `names` fixes
    those of some nodes, by their first output."""
    found = composites.find(program, shapes)
    hidden = {member for site in found.values() for member in site.members} | composites.quantisers(program, found)
    nodes: list[Node] = []
    sites: dict[str, Site] = {}
    for node in program.nodes:
        site = found.get(node.name)
        if site is None:
            if node.name in hidden or all(name in program.constants for name in node.output if name):
                continue
            site = _site(program, shapes, node)
        hidden.update(site.members)
        kind, function = _kind(program, shapes, node, site)
        name = (names or {}).get(site.output) or _name(program, node, site, sites, kind)
        sites[name] = site
        outputs = (
            (site.output,)
            if site.members[1:] or kind in ("linear", "embedding")
            else tuple(output for output in node.output if output)
        )
        nodes.append(
            Node(
                name,
                kind,
                node.op_type,
                site.inputs,
                outputs,
                _named_forms(site, forms.get(name)),
                _attributes(program, shapes, node, site, kind, function),
                _skip(kind, site, node),
            )
        )
    edges = {name: _edge(name, shapes) for node in nodes for name in (*node.inputs, *node.outputs)}
    edges.update((name, _edge(name, shapes)) for name in (*program.inputs, *program.outputs))
    return View(Graph(tuple(nodes), edges, shapes.inputs, program.outputs), sites)


def _site(program: Program, shapes: Shapes, node: onnx.NodeProto) -> Site:
    if node.op_type in ("MatMul", "Gemm"):
        return layers.linear(program, shapes, node) or layers.other(program, shapes, node)
    if node.op_type in ("Conv", "ConvTranspose", "FusedConv"):
        return layers.convolution(program, shapes, node)
    if node.op_type == "Gather":
        return layers.embedding(program, shapes, node) or layers.other(program, shapes, node)
    kind, _ = kind_of(node.op_type)
    if kind == "recurrent":
        return layers.recurrent(program, shapes, node)
    if kind == "norm":
        return layers.norm(program, shapes, node)
    return layers.other(program, shapes, node)


def _kind(program: Program, shapes: Shapes, node: onnx.NodeProto, site: Site) -> tuple[Kind, str]:
    kind, function = kind_of(node.op_type)
    if site.style in ("matmul", "gemm"):
        return "linear", ""
    if site.style == "gather" or site.kind == "embedding":
        return "embedding", ""
    if site.kind is not None:
        return site.kind, ""
    if function in ("min", "max") and _bound(program, node) is not None:  # some exporters write ReLU6 as Relu and Min
        return "activation", "clip"
    return kind, function


def _name(program: Program, node: onnx.NodeProto, site: Site, taken: Mapping[str, Site], kind: Kind) -> str:
    """The names of weight and bias, as the exporter wrote them, say most, then the module that it noted.

    A table is called after its module first: its weight, when tied, may have the name of the other layer."""
    roots = [(role, site.parameters[role].stored[0]) for role in ("weight", "bias") if role in site.parameters]
    named = [constants.layer_name(root, role) for role, root in roots]
    if kind in ("linear", "conv", "embedding"):
        named.insert(0 if kind == "embedding" else len(named), _module(node))
    first = next((name for name in named if name is not None), node.name)
    return node.name if first in taken or (first in program.node and first != node.name) else first


def _module(node: onnx.NodeProto) -> str | None:
    """The innermost module that torch.onnx.export noted: ['', 'encoder', 'encoder.fc', 'linear_3'] gives encoder.fc."""
    noted = next((entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), "")
    scopes = re.findall(r"'([^']*)'", noted)
    return scopes[-2] or None if len(scopes) > 1 else None


def _named_forms(site: Site, form: str | None) -> dict[str, Any]:
    parameters = dict(site.parameters)
    weight = parameters.get("weight")
    if form and weight is not None:
        parameters["weight"] = dataclasses.replace(weight, form=form)
    return parameters


def _skip(kind: Kind, site: Site, node: onnx.NodeProto) -> str | None:
    if kind == "control":
        return HIDDEN if _holds_layers(node) else None
    return site.skip


def _holds_layers(node: onnx.NodeProto) -> bool:
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    inside = [inner for body in bodies for inner in body.node]
    return any(kind_of(inner.op_type)[0] in PRODUCT_KINDS or _holds_layers(inner) for inner in inside)


def _edge(name: str, shapes: Shapes) -> Edge:
    return Edge(name, shapes.found.get(name), shapes.dtypes.get(name, "float32"))


def _attributes(program: Program, shapes: Shapes, node: onnx.NodeProto, site: Site, kind: Kind, function: str) -> dict[str, Any]:
    given = attributes(node)
    found: dict[str, Any] = {"function": function} if function and kind not in ("matmul", "conv", "linear") else {}
    if kind == "conv":
        spatial = len(site.parameters["weight"].shape) - 2 if "weight" in site.parameters else 0
        found = {
            "groups": given.get("group", 1),
            "stride": tuple(given.get("strides") or (1,) * spatial),  # type: ignore[arg-type]
            "dilation": tuple(given.get("dilations") or (1,) * spatial),  # type: ignore[arg-type]
            "transposed": node.op_type == "ConvTranspose",
        }
        found["padding"] = _padding(shapes.found.get(node.input[0]), site, str(given.get("auto_pad", "NOTSET")), given, found)
    elif kind == "norm":
        found |= {
            "epsilon": given.get("epsilon", 1e-5),
            "axis": given.get("axis", 1 if function in ("batch", "instance", "group") else -1),
        }
        if function == "group":
            found |= {"groups": given.get("num_groups") or given.get("groups"), "axis": -1 if given.get("channels_last") else 1}
    elif kind in ("softmax", "concat"):
        found["axis"] = given.get("axis", -1)
    elif node.op_type == "Gather":
        found["axis"] = given.get("axis", 0)
    elif kind == "reduce":
        found["axes"] = _axes(program, shapes, node, given)
    elif function == "pad":
        found["pads"] = _pads(program, shapes, node, given)
    elif function == "clip" and node.op_type in ("Min", "Max"):
        found["high" if node.op_type == "Min" else "low"] = _bound(program, node)
    elif function == "clip":
        found |= {bound: _number(program, node, slot) for bound, slot in (("low", 1), ("high", 2))}
    elif function == "leaky_relu":
        found["alpha"] = given.get("alpha", 0.01)
    elif kind == "matmul":
        found |= _product(program, shapes, node, given)
    elif kind == "attention":
        found |= _attention(shapes, node, given, site)
    return {key: value for key, value in found.items() if value is not None}


def _bound(program: Program, node: onnx.NodeProto) -> float | None:
    """The number that a value is compared with, if that is all that a Min or Max does."""
    fixed = [name for name in node.input if name in program.constants]
    if len(node.input) != 2 or len(fixed) != 1:
        return None
    value = constants.evaluate(program, fixed[0])
    return float(value) if value.ndim == 0 else None


def _integers(program: Program, node: onnx.NodeProto, slot: int) -> list[int] | None:
    """The integers in an input that is constant; none where it is left out."""
    name = node.input[slot] if len(node.input) > slot else ""
    if not name:
        return []
    return [int(n) for n in constants.evaluate(program, name).reshape(-1)] if name in program.constants else None


def _axes(program: Program, shapes: Shapes, node: onnx.NodeProto, given: Mapping[str, object]) -> tuple[int, ...] | None:
    shape, stated = shapes.found.get(node.input[0]), given.get("axes") or _integers(program, node, 1)
    if shape is None or stated is None:
        return None
    if not stated and not given.get("noop_with_empty_axes"):
        return tuple(range(len(shape)))
    return tuple(sorted(int(axis) % len(shape) for axis in stated))  # type: ignore[attr-defined]


def _pads(
    program: Program, shapes: Shapes, node: onnx.NodeProto, given: Mapping[str, object]
) -> tuple[tuple[int, int], ...] | None:
    shape, stated, axes = (
        shapes.found.get(node.input[0]),
        given.get("pads") or _integers(program, node, 1),
        _integers(program, node, 3),
    )
    if shape is None or not stated or axes is None:
        return None
    values, pads = list(stated), [(0, 0)] * len(shape)  # type: ignore[call-overload]
    for index, axis in enumerate(axes or range(len(shape))):
        pads[axis] = int(values[index]), int(values[index + len(values) // 2])
    return tuple(pads)


def _padding(
    source: Shape | None, site: Site, automatic: str, given: Mapping[str, object], found: Mapping[str, Any]
) -> tuple[tuple[int, int], ...]:
    """What a convolution pads each axis of its input with, before and after."""
    kernel = site.parameters["weight"].shape[2:] if "weight" in site.parameters else ()
    if automatic.startswith("SAME") and source is not None and not found["transposed"]:
        pads = []
        for size, k, stride, dilation in zip(source[2:], kernel, found["stride"], found["dilation"], strict=True):
            total = max((-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size, 0)
            pads.append((total - total // 2, total // 2) if automatic == "SAME_LOWER" else (total // 2, total - total // 2))
        return tuple(pads)
    values = list(given.get("pads") or [0] * 2 * len(kernel))  # type: ignore[call-overload]
    half = len(values) // 2  # not of the kernel: a weight that is computed has no known one
    return tuple(zip(values[:half], values[half:], strict=True))


def _number(program: Program, node: onnx.NodeProto, slot: int) -> float | None:
    name = node.input[slot] if len(node.input) > slot else ""
    return float(constants.evaluate(program, name)) if name and name in program.constants else None


def _product(program: Program, shapes: Shapes, node: onnx.NodeProto, given: Mapping[str, object]) -> dict[str, Any]:
    """What counting the products needs besides shapes."""
    operands = [shapes.found.get(name) for name in node.input[:2]]
    out = shapes.found.get(node.output[0])
    if node.op_type == "Einsum":
        return {"equation": str(given["equation"])}
    if node.op_type in ("Gemm", "FusedMatMul") and given.get("transA"):
        return {"transpose_left": True}
    if node.input[0] in program.constants and operands[0] and out is not None:
        return {"macs": prod(out) * operands[0][-1]}
    return {}


def _attention(shapes: Shapes, node: onnx.NodeProto, given: Mapping[str, object], site: Site) -> dict[str, Any]:
    """What the shapes of q, k and v don't say: how many heads lie side by side in them, and the products of the contributed
    `Attention`, which also projects its one input."""
    query, weight = shapes.found.get(node.input[0]), site.parameters.get("constant")
    heads, shared = (given.get(name) or given.get(other) for name, other in (("q_num_heads", "num_heads"), ("kv_num_heads", "")))
    if node.op_type == "Attention" and node.domain == "com.microsoft":
        if query is None or len(query) != 3 or weight is None:
            return {}
        batch, length, _ = query
        return {"macs": batch * length * (weight.size + 2 * length * (weight.shape[1] // 3))}
    key, value = (shapes.found.get(name) for name in (*node.input[1:3], "", "")[:2])
    if not (query and key and value and len(query) == 3 and isinstance(heads, int)):
        return {}
    return {"heads": heads, "kv_heads": shared if isinstance(shared, int) else heads}
