"""prune.channel.magnitude: the channels with the smallest weights go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modelkit.algorithms.prune.unit_norms import unit_norms
from modelkit.analysis.widths import chosen
from modelkit.core.channels import ChannelGroup
from modelkit.core.forms import Array
from modelkit.core.model import Model
from modelkit.core.pruning import PruningTask


@dataclass(frozen=True)
class ChannelMagnitudeOptions:
    pass


class ChannelMagnitude:
    """Units are ranked by the weights that write and read them, over all groups, and the lowest go until the budget is met."""

    summary: ClassVar[str] = "removes the channels with the smallest weights; needs no data"
    Options: ClassVar[type] = ChannelMagnitudeOptions
    needs_data: ClassVar[bool] = False
    removes_branches: ClassVar[bool] = False

    def __init__(self, options: ChannelMagnitudeOptions) -> None:
        self.options = options

    def prune(self, task: PruningTask) -> Model:
        scores = {group.name: _scores(task.model, group) for group in task.channels}
        task.model.shrink(task.channels.cut(chosen(task, scores)))
        return task.model


def _scores(model: Model, group: ChannelGroup) -> Array:
    parts = []
    for slot, units in {**group.writers, **group.readers}.items():
        weight = model.parameter(slot.node, slot.role) if slot.role.startswith("weight") else None
        if weight is not None:
            parts.append((weight, slot.axis, units))
    return unit_norms(parts, group.size)
