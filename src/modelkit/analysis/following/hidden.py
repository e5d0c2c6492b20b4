"""The hidden units of recurrent operators: where they lie in the weights of LSTM, GRU and RNN, as ONNX and as torch have them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from modelkit.core.channels import Positions, Slot
from modelkit.core.graph import Graph, Node


@dataclass(frozen=True)
class Recurrent:
    """hidden: units of each direction (and layer), which lose the same ones. slots: an axis, whether it is as long as the input
    (else as the hidden state), and which of those each position belongs to."""

    hidden: int
    slots: tuple[tuple[Slot, bool, Positions], ...]


def recurrent_slots(node: Node, graph: Graph) -> Recurrent | None:
    """None for operators with peepholes, projections or lengths of their own."""
    if "weight_hidden" in node.parameters:
        return _onnx(node)
    if any(role.startswith("weight_ih_l") for role in node.parameters):
        return _torch(node, (graph.shape(node.inputs[0]) or (0,))[-1])
    return None


def _onnx(node: Node) -> Recurrent | None:
    """weight (directions, gates · hidden, input), weight_hidden (…, hidden), bias (directions, 2 · gates · hidden)."""
    if not set(node.parameters) <= {"weight", "weight_hidden", "bias"} or "weight" not in node.parameters:
        return None
    hidden, rows = node.parameters["weight_hidden"].shape[-1], node.parameters["weight"].shape[1]
    slots = [
        (Slot(node.name, "weight", 1), False, _gates(rows, hidden)),
        (Slot(node.name, "weight", 2), True, np.arange(node.parameters["weight"].shape[2])),
        (Slot(node.name, "weight_hidden", 1), False, _gates(rows, hidden)),
        (Slot(node.name, "weight_hidden", 2), False, np.arange(hidden)),
    ]
    if "bias" in node.parameters:
        slots.append((Slot(node.name, "bias", 1), False, _gates(2 * rows, hidden)))
    return Recurrent(hidden, tuple(slots))


def _torch(node: Node, width: int) -> Recurrent | None:
    """weight_ih_l0 (gates · hidden, input), weight_hh_l0 (…, hidden), bias_ih_l0, and so on for layers and directions."""
    hidden = node.parameters["weight_hh_l0"].shape[-1]
    slots: list[tuple[Slot, bool, Positions]] = []
    for role, parameter in node.parameters.items():
        match = re.fullmatch(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?", role)
        if match is None or parameter.shape[0] % hidden:
            return None
        slots.append((Slot(node.name, role, 0), False, _gates(parameter.shape[0], hidden)))
        if match[1] == "weight":
            first = match[2] == "ih" and match[3] == "0"
            if first and parameter.shape[1] != width:
                return None
            positions = np.arange(width) if first else _gates(parameter.shape[1], hidden)
            slots.append((Slot(node.name, role, 1), first, positions))
    return Recurrent(hidden, tuple(slots))


def _gates(rows: int, hidden: int) -> Positions:
    return np.arange(rows) % hidden
