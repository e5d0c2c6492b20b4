"""LSTM, GRU and RNN by torch's own recurrent operators, which order the gates differently; `recurrent_steps` does the rest."""

from __future__ import annotations

from typing import Any

import torch

from ..node import Node
from ..registry import translates
from ..values import Host, Value, to_tensor
from .recurrent_steps import activation_names, is_default, run_steps
from .shape import entries


@translates("ReorderGates", domain="modelkit")
def reorder_gates(node: Node, weight: torch.Tensor) -> torch.Tensor:
    """(directions, copies · gates · hidden, …) with the gates of each copy in the given order."""
    order = node.attributes["order"]
    parts = weight.unflatten(1, (node.attributes["copies"], len(order), -1))
    return torch.cat([parts[:, :, gate : gate + 1] for gate in order], 2).flatten(1, 3)


def _kernel(node: Node) -> Any:
    """torch's operator for a node's cell, or None."""
    if node.operator == "LSTM":
        return torch.lstm if is_default(node) else None
    if node.operator == "GRU":
        return torch.gru if is_default(node) and node.integer("linear_before_reset", 0) else None
    names = set(activation_names(node))
    if "clip" in node.attributes or len(names) != 1:
        return None
    return {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}.get(names.pop())


def _all_full(lengths: Value, steps: Any) -> bool:
    """Whether every sequence is known to have all steps."""
    return lengths is None or (isinstance(lengths, Host) and all(bool(length == steps) for length in entries(lengths.array)))


def _run(
    node: Node,
    x: Value,
    weight: Value,
    recurrence: Value,
    bias: Value,
    lengths: Value,
    states: list[Value],
    peephole: Value = None,
) -> tuple[torch.Tensor, ...]:
    """Outputs (steps, directions, batch, hidden) and final states (directions, batch, hidden), or batch first if layout is 1."""
    inputs, w, r = to_tensor(x), to_tensor(weight), to_tensor(recurrence)
    batch_first = bool(node.integer("layout", 0))
    inputs = inputs.transpose(0, 1) if batch_first else inputs
    b = None if bias is None else to_tensor(bias)
    initial = []
    for state in states:
        if state is None:
            initial.append(torch.zeros((r.shape[0], inputs.shape[1], r.shape[2]), dtype=inputs.dtype))
        else:
            initial.append(to_tensor(state).transpose(0, 1) if batch_first else to_tensor(state))
    kernel = _kernel(node)
    if kernel is None or peephole is not None or not _all_full(lengths, inputs.shape[0]):
        full = _all_full(lengths, inputs.shape[0])
        y, *final = run_steps(
            node,
            inputs,
            w,
            r,
            b,
            None if full else to_tensor(lengths),
            initial,
            None if peephole is None else to_tensor(peephole),
        )
    else:
        y, *final = _by_torch(node, kernel, inputs, w, r, b, initial)
    if batch_first:
        return (y.permute(2, 0, 1, 3), *[state.transpose(0, 1) for state in final])
    return (y, *final)


def _by_torch(
    node: Node,
    kernel: Any,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None,
    initial: list[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    directions, hidden = r.shape[0], r.shape[2]
    parameters: list[torch.Tensor] = []
    for d in range(directions):
        parameters += [w[d], r[d]]
        if b is not None:
            parameters += list(b[d].chunk(2))
    backwards = node.text("direction", "forward") == "reverse"
    start = initial if len(initial) > 1 else initial[0]
    y, *final = kernel(x.flip(0) if backwards else x, start, parameters, b is not None, 1, 0.0, False, directions == 2, False)
    y = y.flip(0) if backwards else y
    return (y.unflatten(2, (directions, hidden)).transpose(1, 2), *final)


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
    return _run(node, x, weight, recurrence, bias, lengths, [hidden, cell], peephole)


@translates("GRU", "RNN", raw=True)
def gru_or_rnn(
    node: Node, x: Value, weight: Value, recurrence: Value, bias: Value = None, lengths: Value = None, hidden: Value = None
) -> tuple[torch.Tensor, ...]:
    return _run(node, x, weight, recurrence, bias, lengths, [hidden])
