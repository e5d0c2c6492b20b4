"""ONNX sequences: Python lists while translating, gone in the result."""

from __future__ import annotations

import numpy as np
import torch

from ..node import Node
from ..registry import translates
from ..values import Host, Value, host, to_host, to_tensor
from .shape import entries


def _items(node: Node, value: Value) -> list[torch.Tensor]:
    if not isinstance(value, list):
        raise node.refuse("its input is no sequence")
    return value


def _position(value: Value) -> int:
    return int(to_host(value).reshape(-1)[0])


@translates("SequenceConstruct", raw=True)
def construct(node: Node, *items: Value) -> tuple[Value]:
    return ([to_tensor(item) for item in items],)


@translates("SequenceEmpty", raw=True)
def empty(node: Node) -> tuple[Value]:
    return ([],)


@translates("SequenceInsert", raw=True)
def insert(node: Node, sequence: Value, item: Value, position: Value = None) -> tuple[Value]:
    items = list(_items(node, sequence))
    items.insert(len(items) if position is None else _position(position), to_tensor(item))
    return (items,)


@translates("SequenceAt", raw=True)
def at(node: Node, sequence: Value, position: Value) -> torch.Tensor:
    return _items(node, sequence)[_position(position)]


@translates("SequenceLength", raw=True)
def length(node: Node, sequence: Value) -> Host:
    return host(len(_items(node, sequence)))


@translates("SplitToSequence", host=(1,))
def split(node: Node, x: torch.Tensor, sizes: np.ndarray | None = None) -> tuple[Value]:
    axis = node.integer("axis", 0)
    if sizes is None:
        parts = list(torch.split(x, 1, axis))
        return (parts if node.integer("keepdims", 1) else [part.squeeze(axis) for part in parts],)
    return (list(torch.split(x, entries(sizes) if sizes.ndim else entries(sizes)[0], axis)),)


@translates("ConcatFromSequence", raw=True)
def concat(node: Node, sequence: Value) -> torch.Tensor:
    items, axis = _items(node, sequence), node.integer("axis", 0)
    return torch.stack(items, axis) if node.integer("new_axis", 0) else torch.cat(items, axis)
