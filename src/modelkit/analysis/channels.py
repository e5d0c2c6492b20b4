"""Which channels of a model can be removed, and what goes with them: `core.channels.Channels` of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from modelkit.core.channels import ChannelGroup, Channels, Positions, Slot
from modelkit.core.model import Model

from .branches import branches
from .following.follower import Follower
from .following.labels import Labels, varying
from .following.rules import run

Place = TypeVar("Place", Slot, tuple[str, int], tuple[str, str])
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
    groups: list[ChannelGroup] = []
    names: dict[str, int] = {}
    found = _by_signature({**slots, **edges})
    many = [members for members in found if len(members) > 1]
    singles = {members[0] for members in found if len(members) == 1}
    held = [{slot: slots[slot] for slot in slots if parts[slot] == part} for part in ("writer", "reader", "follower")]
    writers, readers, followers = (_numbered(places, many) for places in held)
    in_edges, in_counts = _numbered(edges, many), _numbered(counts, many)
    for index, members in enumerate(many):
        owned = (writers[index], readers[index], followers[index])
        name = next((slot.node for part in owned for slot in part), "")
        names[name] = names.get(name, 0) + 1
        name = name if names[name] == 1 else f"{name}#{names[name]}"
        exact = inexact.isdisjoint(members)
        groups.append(ChannelGroup(name, len(members), *owned, in_edges[index], in_counts[index], exact))
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


def _numbered(places: Mapping[Place, Labels], groups: list[list[int]]) -> list[dict[Place, Positions]]:
    """For each group, the places where it occurs, with the number of its unit (or −1) at each position."""
    size = 1 + max((members[-1] for members in groups), default=0)
    group_of, unit_of = np.full(size, -1), np.full(size, -1)
    for index, members in enumerate(groups):
        group_of[members], unit_of[members] = index, np.arange(len(members))
    found: list[dict[Place, Positions]] = [{} for _ in groups]
    for place, labels in places.items():
        known = np.where(labels < size, labels, 0)
        owner = group_of[known]
        for index in np.unique(owner[owner >= 0]):
            found[index][place] = np.where(owner == index, unit_of[known], -1)
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
