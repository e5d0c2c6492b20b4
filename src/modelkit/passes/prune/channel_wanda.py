"""prune.channel.wanda: the channels go that add the least to what the layers behind compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from modelkit.algorithms.prune.unit_wanda import Reading, unit_wanda
from modelkit.analysis.behind import can_move
from modelkit.core.channels import ChannelGroup, Channels, Positions, Slot
from modelkit.core.forms import Array
from modelkit.core.model import Model
from modelkit.core.passes import NoOptions
from modelkit.core.pruning import PruningTask

from .ranked import prune_by

Place = tuple[str, int]  # an edge and its axis


class ChannelWanda:
    """Units are ranked by |W| · ‖x‖ of all layers that read them, over all groups, and the lowest go until the budget is met."""

    summary: ClassVar[str] = "removes the channels that add least to the layers behind: weights times activations (Wanda)"
    Options: ClassVar[type] = NoOptions
    needs_data: ClassVar[bool] = True
    removes_branches: ClassVar[bool] = False

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def prune(self, task: PruningTask) -> Model:
        energies = _energies(task)
        return prune_by(task, {group.name: _scores(task, group, energies) for group in task.channels})


@dataclass
class _Energy:
    """By position along an axis: sums over all values seen there."""

    count: int
    total: Array
    squares: Array

    def mean_square(self) -> Array:
        return self.squares / max(self.count, 1)

    def variance(self) -> Array:
        spread: Array = np.maximum(self.mean_square() - (self.total / max(self.count, 1)) ** 2, 0)
        return spread


def _energies(task: PruningTask) -> Mapping[Place, _Energy]:
    """Of every activation that layers read a group from, or of all that hold it where none does."""
    assert task.batches is not None
    places = dict.fromkeys(place for group in task.channels for place in _read_places(task.channels, group).values())
    places |= dict.fromkeys(place for group in task.channels if not _read_places(task.channels, group) for place in group.edges)
    found: dict[Place, _Energy] = {}
    for values in task.model.observe(task.batches(), dict.fromkeys(edge for edge, _ in places)):
        for edge, axis in places:
            x = np.moveaxis(values[edge], axis, 0).astype(np.float64)
            x = x.reshape(len(x), -1)
            known = found.setdefault((edge, axis), _Energy(0, np.zeros(len(x)), np.zeros(len(x))))
            known.count += x.shape[1]
            known.total += x.sum(1)
            known.squares += np.einsum("ij,ij->i", x, x)
    return found


def _read_places(channels: Channels, group: ChannelGroup) -> dict[Slot, Place]:
    """Where each weight that reads the group gets it from: its node's first input."""
    found = {}
    for slot in group.readers:
        node = channels.graph.by_name[slot.node]
        axes = [axis for edge, axis in group.edges if node.inputs and edge == node.inputs[0]]
        if axes and slot.role.startswith("weight"):
            found[slot] = (node.inputs[0], axes[0])
    return found


def _scores(task: PruningTask, group: ChannelGroup, energies: Mapping[Place, _Energy]) -> Array:
    readings = []
    for slot, place in _read_places(task.channels, group).items():
        weight = task.model.parameter(slot.node, slot.role)
        if weight is not None:
            node = task.channels.graph.by_name[slot.node]
            makes_up = node.kind in ("linear", "conv") and can_move(task.channels.graph, node) and node.name not in task.fixed
            energy = energies[place].variance() if makes_up else energies[place].mean_square()
            energy = _spread(energy, group.edges[place], group.readers[slot], group.size)
            readings.append(Reading(weight, slot.axis, group.readers[slot], energy))
    if not readings:  # read by other operators: what passes there counts itself
        for place, units in group.edges.items():
            readings.append(Reading(np.ones((1, len(units))), 1, units, energies[place].mean_square()))
    return unit_wanda(readings, group.size)


def _spread(energy: Array, units: Positions, wanted: Positions, size: int) -> Array:
    """The energies at the positions of an edge, for those along a weight: the same ones, or else by their units."""
    if np.array_equal(units, wanted):
        return energy
    mine = units >= 0
    means = np.bincount(units[mine], energy[mine], minlength=size) / np.maximum(np.bincount(units[mine], minlength=size), 1)
    spread: Array = np.append(means, 0.0)[wanted]
    return spread
