"""An ONNX program in which chains of narrower layers take the place of layers, or stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx

from modelkit.core.forms import Array, numpy_dtype
from modelkit.core.graph import Node
from modelkit.core.lowrank import LowRank, Stage, stages

from .emission import slots
from .emitter import Emitter
from .graph import View
from .layers import Site
from .program import Program, attributes

_OWN_PADS = ("", "NOTSET", "VALID")


def factorised(program: Program, view: View, forms: Mapping[str, LowRank]) -> Program:
    """`program`, whose view is `view`, with these layers as chains, the last of which keeps the output and the bias."""
    out = Emitter(program, [slot for name in forms for slot in slots(view.sites[name], "weight")])
    names = {view.sites[name].members[0]: name for name in forms}
    for node in program.nodes:
        name = names.get(node.name)
        if name is None:
            out.nodes.append(node)
        elif view.sites[name].style == "gather":
            _lookup(out, node, name, _in_type(view, name, forms[name]))
        else:
            _chain(out, node, view.graph.by_name[name], view.sites[name], _in_type(view, name, forms[name]), forms[name])
    return replace(out.program_written(), data_files=program.data_files)


def bypassed(program: Program, view: View, forms: Mapping[str, LowRank]) -> tuple[Program, dict[str, str]]:
    """`program` with these chains beside the layers, whose outputs they are added to; and the edges that the layers now write, by
    those of the sums, which they wrote before."""
    out = Emitter(program)
    first = {view.sites[name].members[0]: name for name in forms}
    last = {view.sites[name].members[-1]: name for name in forms}
    sums: dict[str, str] = {}
    moved: dict[str, str] = {}
    for node in program.nodes:
        if node.name in first:
            name = first[node.name]
            sums[name] = _branch(out, node, view.graph.by_name[name], _in_type(view, name, forms[name]), forms[name])
        if node.name in last:
            name, output = last[node.name], node.output[0]
            own = onnx.NodeProto()
            own.CopyFrom(node)
            own.output[0] = moved[output] = out.fresh(f"{name}.own")
            out.nodes.append(own)
            out.node("Add", [own.output[0], sums[name]], output)
        else:
            out.nodes.append(node)
    return replace(out.program_written(), data_files=program.data_files), moved


def _branch(out: Emitter, node: onnx.NodeProto, layer: Node, factors: list[Array], form: LowRank) -> str:
    spread = stages(layer, form) if layer.kind == "conv" else [None] * len(factors)
    value = node.input[0]
    for index, (factor, stage) in enumerate(zip(factors, spread, strict=True)):
        value = _narrow(out, node, f"{layer.name}.{index}", value, factor, stage)
    return value


def _in_type(view: View, name: str, form: LowRank) -> list[Array]:
    dtype = numpy_dtype(view.graph.by_name[name].parameters["weight"].dtype)
    return [np.ascontiguousarray(factor.astype(dtype)) for factor in form.factors]


def _lookup(out: Emitter, node: onnx.NodeProto, name: str, factors: list[Array]) -> None:
    table, behind = factors
    gather = onnx.NodeProto()
    gather.CopyFrom(node)
    gather.input[0] = out.tensor(f"{name}.0.weight", table)
    gather.output[0] = hidden = out.fresh(f"{name}.0")
    gather.name = f"{name}.0"
    out.nodes.append(gather)
    out.node("MatMul", [hidden, out.tensor(f"{name}.1.weight", behind.T)], node.output[0])


def _chain(out: Emitter, node: onnx.NodeProto, layer: Node, site: Site, factors: list[Array], form: LowRank) -> None:
    spread = stages(layer, form) if layer.kind == "conv" else None
    value = node.input[0]
    for index, factor in enumerate(factors[:-1]):
        key = ("first factor", value, id(form.factors[index]))
        if key not in out.written:
            stage = None if spread is None else spread[index]
            out.written[key] = _narrow(out, node, f"{layer.name}.{index}", value, factor, stage)
        value = out.written[key]
    last = onnx.NodeProto()
    last.CopyFrom(node)
    last.input[0] = value
    last.input[1] = out.tensor(f"{layer.name}.{len(factors) - 1}.weight", factors[-1].T if site.transposed else factors[-1])
    if spread is not None:
        _spread(last, spread[-1])
    out.nodes.append(last)


def _narrow(out: Emitter, node: onnx.NodeProto, name: str, value: str, factor: Array, stage: Stage | None) -> str:
    """One factor as a layer without a bias; of a convolution, made from `node`."""
    weight = out.tensor(f"{name}.weight", factor.T if stage is None else factor)
    hidden = out.fresh(name)
    if stage is None:
        return out.node("MatMul", [value, weight], hidden)
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.name, made.output[0] = hidden, hidden
    made.input[:] = [value, weight]
    _spread(made, stage)
    out.nodes.append(made)
    return hidden


def _spread(node: onnx.NodeProto, stage: Stage) -> None:
    """State the stage's share of the convolution. Padding that follows the sizes of the input goes on doing so."""
    pads = [before for before, _ in stage.padding] + [after for _, after in stage.padding]
    stated = {"kernel_shape": list(stage.weight.shape[2:]), "strides": list(stage.stride), "dilations": list(stage.dilation)}
    if str(attributes(node).get("auto_pad", "")) in _OWN_PADS:
        stated |= {"pads": pads, "auto_pad": None}  # type: ignore[dict-item]
    kept = [attribute for attribute in node.attribute if attribute.name not in stated]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in stated.items() if value is not None)
