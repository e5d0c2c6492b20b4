"""Which channels of a model can be removed, and what goes with them: `core.channels.Channels` of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelkit.core.channels import ChannelGroup, Channels, Positions, Slot
from modelkit.core.model import Model

from .branches import branches
from .following.follower import Follower
from .following.labels import Labels, varying
from .following.rules import run

_SINGLE = "its channels can only go together"


def channel_groups(model: Model) -> Channels:
    """The prunable structure of a model, as it is now.

    Labels are followed through the graph until nothing more is joined; then every tensor whose channels form no whole slabs
    (heads within a row of features) gets the coarser units that do, and that is followed too.
    """
    follower = Follower(model)
    while True:
        version = follower.units.version
        run(follower)
        if follower.units.version == version and not _whole_slabs(follower):
            break
    return _assembled(follower)


def _whole_slabs(follower: Follower) -> bool:
    """Join labels so that the elements of each lie in whole slabs along one axis of every edge. Whether any had to be."""
    changed = False
    for edge in list(follower.labels):
        labels = follower.at(edge)
        axes = varying(labels)
        if len(axes) > 1:
            axis = max(axes, key=lambda axis: _units_left(labels, axis))
            others = [other for other in axes if other != axis]
            follower.units.merge(labels, others, "its channels can't be told apart where they are reshaped")
            changed = True
    return changed


def _units_left(labels: Labels, axis: int) -> int:
    """How many units there are when each slab along `axis` is joined."""
    slabs = np.moveaxis(labels, axis, 0).reshape(labels.shape[axis], -1)
    parent: dict[int, int] = {}

    def root(label: int) -> int:
        while parent.get(label, label) != label:
            label = parent[label]
        return label

    for slab in slabs:
        first, *rest = (root(int(label)) for label in np.unique(slab))
        for label in rest:
            a, b = sorted((root(first), root(label)))  # 0, which is the smallest, freezes what it is joined with
            parent[b] = a
    return len({root(int(label)) for label in np.unique(labels)} - {0})


def _assembled(follower: Follower) -> Channels:
    units = follower.units
    slots: dict[Slot, Labels] = {slot: units.live(held.labels) for slot, held in follower.slots.items()}
    for slot, (edge, axis) in follower.behind.items():
        labels = follower.at(edge)
        if axis in varying(labels):
            slots[slot] = labels.reshape(-1)
    edges: dict[tuple[str, int], Labels] = {}
    for edge in follower.labels:
        labels = follower.at(edge)
        if axes := varying(labels):
            edges[edge, axes[0]] = labels.reshape(-1)
    counts = {key: units.live(labels) for key, labels in follower.counts.items()}
    parts = {slot: follower.slots[slot].part if slot in follower.slots else "follower" for slot in slots}
    inexact = {int(label) for labels in follower.inexact for label in np.unique(units.live(labels))}
    groups = []
    names: dict[str, int] = {}
    singles: set[int] = set()
    places: dict[Any, Labels] = {**slots, **edges}
    for members in _by_signature(places):
        if len(members) == 1:
            singles.update(members)
            continue
        number = {label: index for index, label in enumerate(members)}
        held = {part: _numbered({slot: slots[slot] for slot in slots if parts[slot] == part}, number)
                for part in ("writer", "reader", "follower")}  # fmt: skip
        name = next((slot.node for part in held.values() for slot in part), "")
        names[name] = names.get(name, 0) + 1
        groups.append(
            ChannelGroup(
                name if names[name] == 1 else f"{name}#{names[name]}",
                len(members),
                held["writer"],
                held["reader"],
                held["follower"],
                _numbered(edges, number),
                _numbered(counts, number),
                inexact.isdisjoint(members),
            )
        )
    return Channels(follower.graph, tuple(groups), branches(follower.graph), _frozen(follower, slots, singles))


def _by_signature(places: Mapping[Any, Labels]) -> list[list[int]]:
    """Labels that occur at the same places, in the order of their first place."""
    seen: dict[int, list[int]] = {}
    for index, labels in enumerate(places.values()):
        for label in np.unique(labels):
            if label:
                seen.setdefault(int(label), []).append(index)
    found: dict[tuple[int, ...], list[int]] = {}
    for label, at in seen.items():
        found.setdefault(tuple(at), []).append(label)
    return [sorted(members) for members in found.values()]


def _numbered(places: Mapping[Any, Labels], number: Mapping[int, int]) -> dict[Any, Positions]:
    found = {}
    for key, labels in places.items():
        positions = np.array([number.get(int(label), -1) for label in labels])
        if (positions >= 0).any():
            found[key] = positions
    return found


def _frozen(follower: Follower, slots: Mapping[Slot, Labels], singles: set[int]) -> dict[str, str]:
    """Why the channels that a layer writes stay, by layer."""
    found = {}
    for slot, held in follower.slots.items():
        left = {int(label) for label in np.unique(slots[slot])} - singles - {0}
        if slot.role == "weight" and held.part == "writer" and not left:
            found[slot.node] = follower.units.why(held.labels) or _SINGLE
    for node in follower.graph.layers():
        if not any(slot.node == node.name for slot in slots):
            found[node.name] = node.skip or "its channels are not followed"
    return found
