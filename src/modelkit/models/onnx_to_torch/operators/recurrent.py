"""LSTM, GRU and RNN by torch's own recurrent operators, which order the gates differently."""

from __future__ import annotations

from typing import Any

import torch

from ..node import Node
from ..registry import translates
from ..values import Host, Value, to_tensor
from .shape import entries


@translates("ReorderGates", domain="modelkit")
def reorder_gates(node: Node, weight: torch.Tensor) -> torch.Tensor:
    """(directions, copies · gates · hidden, …) with the gates of each copy in the given order."""
    order = node.attributes["order"]
    copies = node.attributes["copies"]
    parts = weight.unflatten(1, (copies, len(order), -1))
    return torch.cat([parts[:, :, gate : gate + 1] for gate in order], 2).flatten(1, 3)


def _same(value: Any, size: Any) -> bool:
    return bool(value == size)


def _check(node: Node, x: torch.Tensor, lengths: Value, activations: list[str]) -> None:
    given = [a.decode() if isinstance(a, bytes) else a for a in node.attributes.get("activations", activations)]
    if [a.lower() for a in given] != [a.lower() for a in activations * (len(given) // len(activations))]:
        raise node.refuse(f"with activations {', '.join(given)}")
    if "clip" in node.attributes or node.integer("input_forget", 0):
        raise node.refuse("with clipped or coupled gates")
    steps = x.shape[1 if node.integer("layout", 0) else 0]
    if lengths is not None and not (isinstance(lengths, Host) and all(_same(e, steps) for e in entries(lengths.array))):
        raise node.refuse(
            "with sequences of different lengths", "Export the model without sequence lengths (no packed sequences)."
        )


def _run(
    node: Node, kernel: Any, x: Value, weight: Value, recurrence: Value, bias: Value, states: list[Value], state_count: int
) -> tuple[torch.Tensor, ...]:
    """Outputs (steps, directions, batch, hidden) and final states (directions, batch, hidden), or batch first if layout is 1."""
    inputs, w, r = to_tensor(x), to_tensor(weight), to_tensor(recurrence)
    batch_first, direction = bool(node.integer("layout", 0)), node.text("direction", "forward")
    inputs = inputs.transpose(0, 1) if batch_first else inputs
    directions, hidden = r.shape[0], r.shape[2]
    b = None if bias is None else to_tensor(bias)
    parameters: list[torch.Tensor] = []
    for d in range(directions):
        parameters += [w[d], r[d]]
        if b is not None:
            parameters += list(b[d].chunk(2))
    initial = []
    for position in range(state_count):
        state = states[position]
        if state is None:
            initial.append(torch.zeros((directions, inputs.shape[1], hidden), dtype=inputs.dtype))
        else:
            initial.append(to_tensor(state).transpose(0, 1) if batch_first else to_tensor(state))
    backwards = direction == "reverse"
    inputs = inputs.flip(0) if backwards else inputs
    start = initial if state_count > 1 else initial[0]
    y, *final = kernel(inputs, start, parameters, b is not None, 1, 0.0, False, directions == 2, False)
    y = y.flip(0) if backwards else y
    y = y.unflatten(2, (directions, hidden))
    if batch_first:
        return (y.transpose(0, 1), *[state.transpose(0, 1) for state in final])
    return (y.transpose(1, 2), *final)


@translates("LSTM", raw=True)
def lstm(
    node: Node,
    x: Value,
    weight: Value,
    recurrence: Value,
    bias: Value = None,
    lengths: Value = None,
    hidden: Value = None,
    cell: Value = None,
    peephole: Value = None,
) -> tuple[torch.Tensor, ...]:
    _check(node, to_tensor(x), lengths, ["Sigmoid", "Tanh", "Tanh"])
    if peephole is not None and not (isinstance(peephole, Host) and not peephole.array.any()):
        raise node.refuse("with peepholes")
    return _run(node, torch.lstm, x, weight, recurrence, bias, [hidden, cell], 2)


@translates("GRU", raw=True)
def gru(
    node: Node, x: Value, weight: Value, recurrence: Value, bias: Value = None, lengths: Value = None, hidden: Value = None
) -> tuple[torch.Tensor, ...]:
    _check(node, to_tensor(x), lengths, ["Sigmoid", "Tanh"])
    if not node.integer("linear_before_reset", 0):
        raise node.refuse(
            "with the reset gate applied before the recurrent product",
            "Export it with linear_before_reset=1 (Keras: reset_after).",
        )
    return _run(node, torch.gru, x, weight, recurrence, bias, [hidden], 1)


@translates("RNN", raw=True)
def rnn(
    node: Node, x: Value, weight: Value, recurrence: Value, bias: Value = None, lengths: Value = None, hidden: Value = None
) -> tuple[torch.Tensor, ...]:
    names = [a.decode().lower() if isinstance(a, bytes) else a.lower() for a in node.attributes.get("activations", ["Tanh"])]
    rectified = names[0] == "relu"
    _check(node, to_tensor(x), lengths, ["Relu" if rectified else "Tanh"])
    return _run(node, torch.rnn_relu if rectified else torch.rnn_tanh, x, weight, recurrence, bias, [hidden], 1)
