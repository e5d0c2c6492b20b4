"""Elementwise operators of ours work in place where nothing else reads their input: in eager mode, half of the time of the
arithmetic around a product of integers would go into fresh memory."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import fx

from .program import Program

aten = torch.ops.aten
_IN_PLACE = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.round.default: aten.round_.default,
    aten.clamp.default: aten.clamp_.default,
}
_FRESH = (*_IN_PLACE, aten.div.Tensor, aten._int_mm.default)


def reuse_memory(program: Program, observed: Container[str]) -> None:
    """Change a lowered program. observed: names of the nodes whose values must stay as they are. (Programs that torch.export has
    decomposed must have no such operators.)"""
    if program.source.dialect != "TRAINING":
        return
    for node in program.graph.nodes:
        if node.target in _IN_PLACE and _is_free(node.args[0], node, observed):
            node.target = _IN_PLACE[node.target]


def _is_free(source: object, reader: fx.Node, observed: Container[str]) -> bool:
    if not isinstance(source, fx.Node) or source.target not in (*_FRESH, *_IN_PLACE.values()) or source.name in observed:
        return False
    old, new = source.meta["val"], reader.meta["val"]
    return set(source.users) == {reader} and reader.all_input_nodes.count(source) == 1 and _kind(old) == _kind(new)


def _kind(value: torch.Tensor) -> tuple[object, ...]:
    return value.dtype, *map(str, value.shape)  # sizes may be symbols
