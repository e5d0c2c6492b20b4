"""Recurrent networks torch has no operator for (peepholes, other activations, sequences of different lengths), step by step.

The steps are unrolled, so the sequence length becomes fixed. Gates are in torch's order, as `ReorderGates` left them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ..node import Node

Activation = Callable[[torch.Tensor], torch.Tensor]

_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_PLAIN: dict[str, Activation] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softsign": F.softsign,
    "softplus": F.softplus,
}


@dataclass(frozen=True)
class Direction:
    """One direction's weights: (gates · hidden, input), (gates · hidden, hidden), both biases, peepholes (3 · hidden) or None."""

    weight: torch.Tensor
    recurrence: torch.Tensor
    bias: tuple[torch.Tensor, torch.Tensor]
    peephole: torch.Tensor | None
    activations: list[Activation]


def activation_names(node: Node) -> list[str]:
    """The activations of all directions, in lower case."""
    given = [a.decode() if isinstance(a, bytes) else a for a in node.attributes.get("activations", [])]
    return [
        name.lower() for name in given or _DEFAULTS[node.operator] * (2 if node.text("direction", "") == "bidirectional" else 1)
    ]


def is_default(node: Node) -> bool:
    """Whether the activations are those of the paper, and nothing is clipped or coupled."""
    names, default = activation_names(node), [name.lower() for name in _DEFAULTS[node.operator]]
    return (
        names == default * (len(names) // len(default)) and "clip" not in node.attributes and not node.integer("input_forget", 0)
    )


def _activations(node: Node, direction: int) -> list[Activation]:
    count = len(_DEFAULTS[node.operator])
    names = activation_names(node)[direction * count : (direction + 1) * count]
    alphas, betas = list(node.attributes.get("activation_alpha", [])), list(node.attributes.get("activation_beta", []))
    if any(name not in _PLAIN and name != "hardsigmoid" for name in names) or ("hardsigmoid" in names and (alphas or betas)):
        raise node.refuse(f"with activations {', '.join(names)}")
    return [_PLAIN[name] if name in _PLAIN else _hard_sigmoid for name in names]


def _hard_sigmoid(x: torch.Tensor) -> torch.Tensor:
    return torch.clamp(x * 0.2 + 0.5, 0.0, 1.0)


def run_steps(
    node: Node,
    x: torch.Tensor,
    weight: torch.Tensor,
    recurrence: torch.Tensor,
    bias: torch.Tensor | None,
    lengths: torch.Tensor | None,
    states: list[torch.Tensor],
    peephole: torch.Tensor | None,
) -> tuple[torch.Tensor, ...]:
    """x (steps, batch, input) to outputs (steps, directions, batch, hidden) and final states (directions, batch, hidden)."""
    ys, finals = [], []
    for d in range(recurrence.shape[0]):
        rows = recurrence.shape[1]
        b = torch.zeros(2 * rows, dtype=x.dtype) if bias is None else bias[d]
        direction = Direction(
            weight[d], recurrence[d], (b[:rows], b[rows:]), None if peephole is None else peephole[d], _activations(node, d)
        )
        backwards = d == 1 or node.text("direction", "forward") == "reverse"
        y, final = _one_direction(node, x, direction, lengths, [state[d] for state in states], backwards)
        ys.append(y)
        finals.append(final)
    return (torch.stack(ys, 1), *[torch.stack([final[i] for final in finals]) for i in range(len(states))])


def _one_direction(
    node: Node, x: torch.Tensor, direction: Direction, lengths: torch.Tensor | None, states: list[torch.Tensor], backwards: bool
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    step = {"LSTM": _lstm_step, "GRU": _gru_step, "RNN": _rnn_step}[node.operator]
    projected = F.linear(x, direction.weight, direction.bias[0])
    steps: Any = int(x.shape[0])
    outputs: list[torch.Tensor] = []
    for t in reversed(range(steps)) if backwards else range(steps):
        fresh = step(node, projected[t], direction, states)
        if lengths is None:
            states = fresh
            outputs.append(states[0])
        else:  # past its end a sequence keeps its states and gives zeros
            running = (lengths > t).unsqueeze(1)
            states = [torch.where(running, new, old) for new, old in zip(fresh, states, strict=True)]
            outputs.append(torch.where(running, fresh[0], torch.zeros_like(fresh[0])))
    return torch.stack(outputs[::-1] if backwards else outputs), states


def _clipped(node: Node, x: torch.Tensor) -> torch.Tensor:
    bound = node.real("clip", 0.0)
    return x.clamp(-bound, bound) if bound else x


def _lstm_step(node: Node, x: torch.Tensor, direction: Direction, states: list[torch.Tensor]) -> list[torch.Tensor]:
    hidden, cell = states
    i, f, g, o = (x + F.linear(hidden, direction.recurrence, direction.bias[1])).chunk(4, -1)
    squash, candidate, output = direction.activations
    p = None if direction.peephole is None else direction.peephole.chunk(3)  # input, output, forget
    i = squash(_clipped(node, i if p is None else i + p[0] * cell))
    f = 1 - i if node.integer("input_forget", 0) else squash(_clipped(node, f if p is None else f + p[2] * cell))
    cell = f * cell + i * candidate(_clipped(node, g))
    o = squash(_clipped(node, o if p is None else o + p[1] * cell))
    return [o * output(cell), cell]


def _gru_step(node: Node, x: torch.Tensor, direction: Direction, states: list[torch.Tensor]) -> list[torch.Tensor]:
    (hidden,) = states
    squash, candidate = direction.activations
    size = hidden.shape[-1]
    gates = F.linear(hidden, direction.recurrence[: 2 * size], direction.bias[1][: 2 * size])
    r, z = squash(_clipped(node, x[:, : 2 * size] + gates)).chunk(2, -1)
    last, last_bias = direction.recurrence[2 * size :], direction.bias[1][2 * size :]
    if node.integer("linear_before_reset", 0):
        recurrent = r * F.linear(hidden, last, last_bias)
    else:
        recurrent = F.linear(r * hidden, last, last_bias)
    n = candidate(_clipped(node, x[:, 2 * size :] + recurrent))
    return [(1 - z) * n + z * hidden]


def _rnn_step(node: Node, x: torch.Tensor, direction: Direction, states: list[torch.Tensor]) -> list[torch.Tensor]:
    total = x + F.linear(states[0], direction.recurrence, direction.bias[1])
    return [direction.activations[0](_clipped(node, total))]
