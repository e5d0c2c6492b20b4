"""What modelkit writes into a .pt2 beside the program, and how it finds its weight forms and grids in one again.

The note in the file is only believed where the program bears it out: a form is taken up if the operators that stand in the
graph compute exactly what the form decodes to. A file without the note, or with a wrong one, is an ordinary program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import fx

from ...core.forms import DynamicGrid, Grid, Quantized, Sparse
from ...core.model import EdgeGrid, Preprocessing, Provenance
from .constants import Constants
from .forms import Site, Stored, StoredForms, to_array, torch_dtype
from .grids import match_dynamic_grid, match_grid
from .integers import from_integers
from .program import Program, arguments, rename, set_argument
from .sparse import read_sparse
from .weights import read

FILE = "modelkit.json"
aten = torch.ops.aten


def note(provenance: Provenance, records: list[dict[str, Any]], names: Mapping[str, str]) -> str:
    """The text of the note. `names` are the layer names of the fx nodes that the records are about."""
    forms: dict[str, dict[str, Any]] = {}
    for record in records:
        forms.setdefault(names[record["operator"]], {})[record["argument"]] = record
    preprocessing = asdict(provenance.preprocessing) if provenance.preprocessing else None
    found = {"history": provenance.history, "forms": forms, "preprocessing": preprocessing, "target": provenance.target}
    return json.dumps(found, default=str)


def provenance_of(text: str) -> Provenance:
    """The provenance in a note; an empty one where there is none or it is not one."""
    found = _parse(text)
    history = found.get("history")
    provenance = Provenance(history=[entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else [])
    target = found.get("target")
    provenance.target = target if isinstance(target, str) else None
    preprocessing = found.get("preprocessing")
    if isinstance(preprocessing, dict):
        try:
            mean, std = (tuple(float(x) for x in preprocessing[key]) for key in ("mean", "std"))
            provenance.preprocessing = Preprocessing(float(preprocessing["scale"]), mean, std)
        except (KeyError, TypeError, ValueError):
            provenance.preprocessing = None
    return provenance


def raise_integers(program: Program, text: str) -> None:
    """Turn products of integers into layers that read a decoded weight and an activation on a grid."""
    found = _parse(text).get("forms")
    layers = [records for records in found.values() if isinstance(records, dict)] if isinstance(found, dict) else []
    from_integers(program, [it for it in layers if "signed_activations" in it.get("weight", {})])


def raise_forms(program: Program, text: str) -> tuple[StoredForms, dict[str, str]]:
    """Take the weight forms that a note tells of out of the graph: the layers then read placeholders without tensors.

    Returns the forms and the names of the fx nodes of their layers.
    """
    found = _parse(text).get("forms")
    forms: StoredForms = {}
    names: dict[str, str] = {}
    shared: dict[tuple[Any, ...], tuple[Quantized | Sparse, fx.Node]] = {}
    constants = Constants(program)
    for layer, records in (found if isinstance(found, dict) else {}).items():
        for record in records.values() if isinstance(records, dict) else ():
            try:
                site, stored = _raise(program, constants, record, shared)
            except (KeyError, TypeError, ValueError, AssertionError, AttributeError, IndexError, RuntimeError):
                continue  # The note does not fit the program.
            forms[site] = stored
            names[site[0]] = str(layer)
    program.prune()
    return forms, names


def _raise(
    program: Program,
    constants: Constants,
    record: dict[str, Any],
    shared: dict[tuple[Any, ...], tuple[Quantized | Sparse, fx.Node]],
) -> tuple[Site, Stored]:
    sparse = "mask" in record
    key = tuple(record[name] for name in (("mask", "values") if sparse else ("codes", "scale", "zero_point", "axis")))
    node = program.nodes()[record["operator"]]
    argument, target = str(record["argument"]), str(record["target"])
    form = shared[key][0] if key in shared else (read_sparse if sparse else read)(record, program.tensors)
    gather = program.nodes()[record["gather"]] if record["gather"] is not None else None
    indices = gather.args[1] if gather is not None else None
    if gather is None:
        value = constants.value(arguments(node)[argument])
    else:
        assert isinstance(indices, fx.Node) and gather.target is aten.embedding.default
        value = constants.value(node, {indices: torch.arange(form.shape[0])})
    assert np.array_equal(to_array(value), form.decode(), equal_nan=True)
    if key not in shared:
        shared[key] = (
            form,
            program.add_placeholder(program.free_target(target), torch_dtype(form.dtype), form.shape, parameter=True),
        )
    placeholder = shared[key][1]
    if not isinstance(indices, fx.Node):
        set_argument(node, argument, placeholder)
    else:
        node = _embedding(program, node, placeholder, indices)
    activation = None
    if record["dynamic"] and node.target is aten.linear.default:
        x = node.args[0]
        source = match_dynamic_grid(x) if isinstance(x, fx.Node) else None
        if source is not None:
            node.update_arg(0, source)
            activation = DynamicGrid()
    return (node.name, argument), Stored(form, program.target(placeholder) or target, activation)


def _embedding(program: Program, last: fx.Node, weight: fx.Node, indices: fx.Node) -> fx.Node:
    """Put an embedding in the place of the operators that gather and decode rows, the last of which is `last`."""
    with program.graph.inserting_before(last):
        node = program.call(aten.embedding.default, weight, indices)
    name = last.name
    program.replace_uses(last, node)
    program.graph.erase_node(last)
    rename(program, node, name)
    return node


def raise_grids(program: Program) -> dict[str, tuple[Grid, frozenset[str] | None]]:
    """Take static grids on activations out of the graph: the edges they are on, with the fx nodes that read them (None: all)."""
    grids: dict[str, tuple[Grid, frozenset[str] | None]] = {}
    constants = Constants(program)
    for node in list(program.graph.nodes):
        found = match_grid(node) if node.op == "call_function" and not constants.holds(node) else None
        if found is None or found[0].name in grids:
            continue
        edge, grid = found
        readers = frozenset(user.name for user in node.users)
        program.replace_uses(node, edge)
        while node is not edge and not node.users:  # The chain behind it that nothing reads now.
            chain, node = node, node.args[0]
            program.graph.erase_node(chain)
        everything = {user.name for user in edge.users} <= readers
        grids[edge.name] = grid, None if everything else readers
    return grids


def _parse(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def as_edge_grids(grids: Mapping[str, tuple[Grid, frozenset[str] | None]], names: Mapping[str, str]) -> dict[str, EdgeGrid]:
    """The same by the neutral graph's names; `names` are those of the fx nodes."""
    return {
        edge: EdgeGrid(grid, readers and frozenset(names[reader] for reader in readers if reader in names))
        for edge, (grid, readers) in grids.items()
    }
