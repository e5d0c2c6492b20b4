"""Write weight forms and activation grids into a program as operators that any torch can run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from ...core.forms import Dense, Grid, Quantized, Sparse, WeightForm
from .forms import Stored, StoredForms, to_tensor
from .grids import Lowering, fake_quantize, fake_quantize_dynamic, follower
from .program import Program, arguments, rename, set_argument
from .sparse import SparseBuffers, decode_sparse, store_sparse
from .weights import Buffers, decode, decode_rows, store

Records = dict[str, Any]


def lower(
    program: Program,
    forms: StoredForms,
    grids: Mapping[str, tuple[Grid, frozenset[str] | None]],
    *,
    dense: bool = False,
    grid_operators: Lowering = fake_quantize,
) -> tuple[Program, list[Records]]:
    """A changed copy of `program`, and what to write into the file so that the forms are found again.

    forms: by (fx node, argument). grids: by fx node, with the fx nodes that read the quantised value (None: all).
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
    for name, (grid, readers) in grids.items():
        _insert_grid(program, nodes[name], grid, readers, grid_operators)
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


def _insert_grid(program: Program, edge: fx.Node, grid: Grid, readers: frozenset[str] | None, operators: Lowering) -> None:
    before = set(edge.users)
    with program.graph.inserting_before(follower(edge).next):
        quantised = operators(program, edge, grid)
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
