"""prune.channel.taylor: the channels go that the loss, to first order, cares least about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from modelkit.algorithms.prune.unit_fisher import Sensitive, gate_gradients
from modelkit.core.channels import ChannelGroup, Positions, Slot
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.model import Model
from modelkit.core.passes import NoOptions
from modelkit.core.pruning import PruningTask

from .channel_magnitude import magnitudes
from .ranked import prune_by


class ChannelTaylor:
    """Units are ranked by E[(∂L/∂gate)²], over all groups, and the lowest go until the budget is met.

    L is the negative log-likelihood of answers drawn from the model itself, whose expected square is the Fisher information: the
    second order of the divergence from the original. (The divergence itself has no first order there.) Where the calibration data
    has class labels, the cross-entropy with those is added."""

    summary: ClassVar[str] = "removes the channels that the loss cares least about, by its gradient (Taylor, Fisher); uses labels"
    Options: ClassVar[type] = NoOptions
    needs_data: ClassVar[bool] = True
    removes_branches: ClassVar[bool] = False

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def prune(self, task: PruningTask) -> Model:
        assert task.gradients is not None
        slots = {group.name: _slots(task.model, group) for group in task.channels}
        weights = {
            (slot.node, slot.role): task.model.parameter(slot.node, slot.role) for found in slots.values() for slot in found
        }
        squares: dict[str, Array] = {}
        for gradients in task.gradients(list(weights)):
            for group in task.channels:
                parts = []
                for slot, units in slots[group.name].items():
                    weight, gradient = weights[slot.node, slot.role], gradients.get((slot.node, slot.role))
                    if weight is not None and gradient is not None:
                        parts.append(Sensitive(weight, gradient, slot.axis, units))
                if parts:
                    gates = gate_gradients(parts, group.size)
                    squares[group.name] = squares.get(group.name, 0.0) + gates**2
        return prune_by(task, _comparable(task, squares))


def _slots(model: Model, group: ChannelGroup) -> Mapping[Slot, Positions]:
    """The weights whose gates are the group's: those that read it, each once; where no weight does, all that write it."""
    graph = model.graph
    readers = {slot: units for slot, units in group.readers.items() if slot.role.startswith("weight")}
    found: dict[tuple[str, ...], Slot] = {}
    for slot in readers or group.writers:
        found.setdefault(graph.by_name[slot.node].parameters[slot.role].stored or (slot.node, slot.role), slot)
    return {slot: (readers or group.writers)[slot] for slot in found.values()}


def _comparable(task: PruningTask, squares: Mapping[str, Array]) -> dict[str, Array]:
    """Scores of all groups; those without gradients are ranked by magnitude, on the others' scale."""
    if not squares or not all(np.isfinite(values).all() for values in squares.values()):
        raise ModelkitError(
            "The loss has no finite gradient with respect to the weights of this model.", "Use --algorithm obs or wanda."
        )
    norms = {group.name: magnitudes(task.model, group) for group in task.channels}
    scale = sum(values.sum() for values in squares.values()) / (sum(norms[name].sum() for name in squares) or 1.0)
    return {name: squares[name] if name in squares else scale * values for name, values in norms.items()}
