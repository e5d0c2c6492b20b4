"""How many units each group may keep, and which go when a ranking must meet a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from modelkit.core.channels import ChannelGroup, Channels, Mask
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.pruning import PruningTask


def grain(group: ChannelGroup, round_to: int) -> int:
    """Units to count in, so that the narrowest axis of a weight keeps a multiple of `round_to` channels: a head of 16 is one."""
    positions = [int((units >= 0).sum()) // group.size for units in (*group.writers.values(), *group.readers.values())]
    each = max(min(positions, default=1), 1)
    return round_to // int(np.gcd(round_to, each))


def widths(group: ChannelGroup, round_to: int) -> list[int]:
    """The numbers of units that may be kept, rising; the last is all of them."""
    step = grain(group, round_to)
    return [*range(step, group.size, step), group.size]


def smallest(channels: Channels, round_to: int) -> dict[str, Mask]:
    """As few units as may be kept of every group (which ones does not matter for a cost)."""
    return {group.name: np.arange(group.size) < widths(group, round_to)[0] for group in channels}


def check_reachable(task: PruningTask) -> None:
    """Raises ModelkitError, saying how far pruning can go, when the budget can't be met by any choice of channels."""
    least = task.cost(task.channels.cut(smallest(task.channels, task.round_to)).resized(task.channels.graph))
    if least > task.limit:
        raise unreachable(task, least)


def unreachable(task: PruningTask, least: float) -> ModelkitError:
    whole = task.limit / task.budget.kept
    furthest = least / whole
    if task.budget.measure == "sparsity":
        furthest = 1 - furthest
    elif task.budget.measure == "speedup":
        furthest = 1 / furthest
    most = task.budget.measure in ("sparsity", "speedup")
    furthest = (math.floor if most else math.ceil)(furthest * 1000) / 1000  # so that the number told can be asked for
    finer = ", a smaller --round-to" if task.round_to > 1 else ""
    bound = "at most" if most else "at least"
    return ModelkitError(
        f"{task.budget} can't be reached: with the channels that can go, --{task.budget.measure} is {bound} {furthest:g}.",
        f"Ask for less{finer}, or allow more layers.",
    )


def chosen(task: PruningTask, scores: Mapping[str, Array]) -> dict[str, Mask]:
    """Which units stay when those go, until the budget is met, that do the least harm for what they save. `scores`: the harm of
    each unit, comparable across groups; each group keeps one of its `widths`. Raises ModelkitError when even the smallest widths
    cost too much."""
    check_reachable(task)
    scores = {group.name: scores[group.name] / _saving(task, group) for group in task.channels}
    levels = np.unique(np.concatenate([np.sort(values) for values in scores.values()]))
    low, high = 0, len(levels)  # below levels[0] nothing goes; at `high` all that can
    while low < high:
        middle = (low + high) // 2
        keep = _kept(task, scores, levels, middle)
        if task.cost(task.channels.cut(keep).resized(task.channels.graph)) <= task.limit:
            high = middle
        else:
            low = middle + 1
    return _kept(task, scores, levels, low)


def _saving(task: PruningTask, group: ChannelGroup) -> float:
    """What a unit costs on average over half of the group, as a share of the whole."""
    if group.size == 1:
        return 1.0
    half = np.arange(group.size) < group.size // 2
    graph = task.channels.graph
    whole = task.cost(graph)
    saved = whole - task.cost(task.channels.cut({group.name: half}).resized(graph))
    return max(saved / whole, 1e-9) / (group.size - group.size // 2)


def _kept(task: PruningTask, scores: Mapping[str, Array], levels: Array, index: int) -> dict[str, Mask]:
    """The units whose score is at least the level, rounded to the nearest width that may be."""
    keep = {}
    for group in task.channels:
        allowed = np.array(widths(group, task.round_to))
        values = scores[group.name]
        wanted = int((values >= levels[index]).sum()) if index < len(levels) else 0
        count = int(allowed[np.abs(allowed - wanted).argmin()])
        keep[group.name] = np.zeros(group.size, bool)
        keep[group.name][np.argsort(-values, kind="stable")[:count]] = True
    return keep
