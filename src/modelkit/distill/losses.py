"""How far the student's outputs are from the teacher's.

Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015, for the divergence; relative squared error else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch.nn import functional

from modelkit.core.graph import Graph, Node

Loss = Literal["kl", "mse", "both"]
_LOWEST = -1e4  # stands for −∞ in logits


def losses_of(graph: Graph, labels: str | None) -> dict[str, Loss]:
    """The loss of each float output. `labels`: the kind of the data's labels ("i" for classes or tokens, "f" for targets), None
    without any.

    What comes out of a softmax, or out of a linear layer where the labels are classes, is a distribution: "kl". Without labels a
    linear layer may as well give an embedding, whose values count themselves: "both". Else "mse"."""
    found: dict[str, Loss] = {}
    for name in graph.outputs:
        edge = graph.edges[name]
        if not edge.is_float:
            continue
        last = _computed_by(graph, name)
        wide = bool(edge.shape) and edge.shape is not None and edge.shape[-1] > 1
        if last is not None and last.kind == "softmax" and wide:
            found[name] = "kl"
        elif last is not None and last.kind == "linear" and wide and labels != "f":
            found[name] = "kl" if labels == "i" else "both"
        else:
            found[name] = "mse"
    return found


def _computed_by(graph: Graph, edge: str) -> Node | None:
    """The node behind an output, looking through reshapes and sums with a constant."""
    node = graph.producer(edge)
    while node is not None and (node.kind == "reshape" or (node.function == "add" and len(node.inputs) == 1)) and node.inputs:
        node = graph.producer(node.inputs[0])
    return node


class Distance:
    """The sum of the losses of all outputs. temperature: of the divergence. probabilities: the outputs that are no logits."""

    def __init__(self, kinds: Mapping[str, Loss], temperature: float, probabilities: Sequence[str] = ()) -> None:
        self.kinds = dict(kinds)
        self.temperature = temperature
        self.probabilities = frozenset(probabilities)

    def __call__(self, student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor]) -> torch.Tensor:
        total = torch.zeros((), device=next(iter(student.values())).device)
        for name, kind in self.kinds.items():
            s, t = student[name].float(), teacher[name].float()
            if kind != "mse":
                total = total + self.divergence(s, t, name in self.probabilities)
            if kind != "kl":
                total = total + relative_error(s, t)
        return total

    def divergence(self, student: torch.Tensor, teacher: torch.Tensor, probabilities: bool) -> torch.Tensor:
        """T² · KL(teacher ‖ student) of the distributions along the last axis at temperature T, the mean over all others."""
        s, t = (logits_of(value, probabilities) / self.temperature for value in (student, teacher))
        kl = functional.kl_div(functional.log_softmax(s, -1), functional.log_softmax(t, -1), reduction="none", log_target=True)
        return kl.sum(-1).mean() * self.temperature**2


def relative_error(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """‖s − t‖² / ‖t‖² over the batch."""
    error: torch.Tensor = (student - teacher).square().mean() / teacher.square().mean().clamp_min(1e-12)
    return error


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """With the classes (batch,), or with tokens (batch, length), where each position tells the next."""
    if labels.ndim == 2:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return functional.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), reduction=reduction)


def logits_of(value: torch.Tensor, probabilities: bool) -> torch.Tensor:
    """What a softmax makes the distribution from; finite."""
    if probabilities:
        value = value.clamp_min(1e-8).log()
    return torch.nan_to_num(value, neginf=_LOWEST)
