"""prune.channel.magnitude: the channels with the smallest weights go."""

from __future__ import annotations

from typing import ClassVar

from modelkit.algorithms.prune.unit_norms import unit_norms
from modelkit.core.channels import ChannelGroup
from modelkit.core.forms import Array
from modelkit.core.model import Model
from modelkit.core.passes import NoOptions
from modelkit.core.pruning import PruningTask

from .ranked import prune_by


class ChannelMagnitude:
    """Units are ranked by the weights that write and read them, over all groups, and the lowest go until the budget is met."""

    summary: ClassVar[str] = "removes the channels with the smallest weights; needs no data"
    Options: ClassVar[type] = NoOptions
    needs_data: ClassVar[bool] = False
    removes_branches: ClassVar[bool] = False

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def prune(self, task: PruningTask) -> Model:
        return prune_by(task, {group.name: magnitudes(task.model, group) for group in task.channels})


def magnitudes(model: Model, group: ChannelGroup) -> Array:
    """Scores (size,) of the group's units."""
    parts = []
    for slot, units in {**group.writers, **group.readers}.items():
        weight = model.parameter(slot.node, slot.role) if slot.role.startswith("weight") else None
        if weight is not None:
            parts.append((weight, slot.axis, units))
    return unit_norms(parts, group.size)
