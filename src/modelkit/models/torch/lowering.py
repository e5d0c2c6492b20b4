"""Write weight forms and activation grids into a program as operators that any torch can run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from ...core.forms import Dense, DynamicGrid, Quantized, Sparse, WeightForm
from ...core.graph import Node
from ...core.model import EdgeGrid
from .forms import Stored, StoredForms, to_tensor
from .grids import Lowering, fake_quantize, fake_quantize_dynamic, follower
from .program import Program, arguments, rename, set_argument
from .sparse import SparseBuffers, decode_sparse, store_sparse
from .weights import Buffers, decode, decode_rows, store

Records = dict[str, Any]
_FEW_BITS = range(1, 9)


def reason_against(layer: Node, form: WeightForm, activation: DynamicGrid | None) -> str | None:
    """None, or why a layer's weight can't be stored in that form, its input found on a grid at run time if `activation`."""
    if layer.skip:
        return layer.skip
    if isinstance(form, Quantized) and form.bits not in _FEW_BITS and form.bits != 32:
        return f"{form.bits} bits are not supported"
    if not isinstance(form, Dense) and layer.kind not in ("linear", "conv", "embedding"):
        return f"it is a {layer.kind} operator"
    if activation is not None and isinstance(form, Sparse):
        return "a sparse weight has no integers to multiply with"
    if activation is not None and layer.kind != "linear":
        return "activations are found at run time for linear layers only"
    return None


def lower(
    program: Program,
    forms: StoredForms,
    grids: Mapping[str, EdgeGrid],
    *,
    dense: bool = False,
    grid_operators: Lowering = fake_quantize,
) -> tuple[Program, list[Records]]:
    """A changed copy of `program`, and what to write into the file so that the forms are found again.

    forms: by (fx node, argument). grids: by fx node; their readers are fx nodes too.
    dense: decode every form and leave dynamic grids out. grid_operators: how a grid is written.
    """
    program = program.copy()
    records = []
    nodes = program.nodes()
    for name, argument in forms:
        set_argument(nodes[name], argument, None)
    program.prune()
    kept: dict[int, Buffers | SparseBuffers | fx.Node] = {}
    for (name, argument), stored in forms.items():
        record = _place(program, nodes[name], argument, stored, kept, dense)
        if record:
            records.append(record)
    nodes = program.nodes()
    for name, placed in grids.items():
        _insert_grid(program, nodes[name], placed, grid_operators)
    if not dense:
        _insert_dynamic_grids(program, forms)
    program.prune()
    return program, records


def _place(
    program: Program,
    node: fx.Node,
    argument: str,
    stored: Stored,
    kept: dict[int, Buffers | SparseBuffers | fx.Node],
    dense: bool,
) -> Records | None:
    form = stored.form
    if isinstance(form, Dense) or dense:
        value = kept.get(id(form))
        if value is None:
            parameter = argument in ("weight", "bias")
            value = kept[id(form)] = program.add_tensor(stored.target, to_tensor(form.decode()), parameter=parameter)
        assert isinstance(value, fx.Node)
        set_argument(node, argument, value)
        return None
    buffers = kept.get(id(form))
    if buffers is None:
        if isinstance(form, Sparse):
            buffers = store_sparse(program, form, stored.target)
        else:
            buffers = store(program, form, stored.target)
        kept[id(form)] = buffers
    assert isinstance(buffers, Buffers | SparseBuffers)
    record = {
        "operator": node.name,
        "argument": argument,
        "target": stored.target,
        "dynamic": stored.activation is not None,
        "gather": None,
    }
    with program.graph.inserting_before(node):
        if isinstance(buffers, SparseBuffers):
            set_argument(node, argument, decode_sparse(program, buffers))
        elif gathers(node, argument, form):
            indices = arguments(node)["indices"]
            rows, gather = decode_rows(program, buffers, indices)
            record["gather"] = gather.name
            name = node.name
            program.replace_uses(node, rows)
            program.graph.erase_node(node)
            rename(program, rows, name)
        else:
            set_argument(node, argument, decode(program, buffers))
    return record | buffers.record(program)


def gathers(node: fx.Node, argument: str, form: WeightForm) -> bool:
    """Whether only the rows that are looked up need decoding."""
    found = str(node.target) == "aten.embedding.default" and argument == "weight"
    return found and isinstance(form, Quantized) and form.axis == 0


def _insert_grid(program: Program, edge: fx.Node, placed: EdgeGrid, operators: Lowering) -> None:
    before, readers = set(edge.users), placed.readers
    factor = None if placed.factor is None else program.add_tensor(f"{edge.name}.factor", to_tensor(placed.factor))
    with program.graph.inserting_before(follower(edge).next):
        value = edge if factor is None else program.call(torch.ops.aten.mul.Tensor, edge, factor)
        quantised = operators(program, value, placed.grid)
    program.replace_uses(edge, quantised, lambda user: user in before and (readers is None or user.name in readers))


def _insert_dynamic_grids(program: Program, forms: StoredForms) -> None:
    """One grid per value, shared by all the layers that read it."""
    done: dict[fx.Node, fx.Node] = {}
    for node in list(program.graph.nodes):
        stored = forms.get((node.name, "weight"))
        if stored is None or stored.activation is None:
            continue
        x = node.args[0]
        if x not in done:
            with program.graph.inserting_before(node):
                done[x] = fake_quantize_dynamic(program, x)
        node.update_arg(0, done[x])
