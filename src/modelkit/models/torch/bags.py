"""Embedding bags of one size as a look-up and a reduction.

So only the rows that are looked up need decoding, and ONNX, which has no bags, gets two operators instead of a loop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from .program import Program, arguments, is_getitem, rename

aten = torch.ops.aten
_REDUCTIONS: dict[int, Any] = {0: aten.sum.dim_IntList, 1: aten.mean.dim, 2: aten.amax.default}  # by embedding_bag's mode


def split_bags(program: Program) -> None:
    """Split the bags of (batch, size) indices that torch's EmbeddingBag flattens, where nothing else about them is asked for."""
    for node in list(program.graph.nodes):
        if node.target not in (aten.embedding_bag.padding_idx, aten.embedding_bag.default):
            continue
        indices = _indices(arguments(node))
        used = [user for user in node.users if user.users]
        if indices is None or len(used) != 1 or not is_getitem(used[0]) or used[0].args[1] != 0:
            continue
        with program.graph.inserting_before(node):
            rows = program.call(aten.embedding.default, node.args[0], indices)
            result = program.call(_REDUCTIONS[arguments(node)["mode"]], rows, [1])
        name = used[0].name
        program.replace_uses(used[0], result)
        for user in (*node.users, node):
            program.graph.erase_node(user)
        rename(program, result, name)


def _indices(values: dict[str, Any]) -> fx.Node | None:
    """The (batch, size) indices of bags that are all of one size; None for others."""
    flat, offsets = values["indices"], values["offsets"]
    plain = values["per_sample_weights"] is None and not values["include_last_offset"] and values["mode"] in _REDUCTIONS
    if not plain or values.get("padding_idx") not in (None, -1) or values["scale_grad_by_freq"]:
        return None
    if offsets.target is not aten.arange.start_step or offsets.args[0] != 0 or len(offsets.args) != 3:
        return None
    if flat.target is not aten.reshape.default or list(flat.args[1]) != [-1]:
        return None
    indices, size = flat.args[0], offsets.args[2]
    shape = indices.meta["val"].shape
    return indices if len(shape) == 2 and isinstance(size, int) and shape[1] == size and size > 0 else None
