"""prune.channel.obs: second-order pruning of channels, heads and branches, with the layers behind them refitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from modelkit.algorithms.allocation import Levels, allocate, meet
from modelkit.analysis.effects import output_error
from modelkit.analysis.memory import first_batches
from modelkit.analysis.widths import unreachable, widths
from modelkit.core.channels import Branch, ChannelGroup, Channels, Cut, Mask
from modelkit.core.forms import Array
from modelkit.core.graph import Graph, Node
from modelkit.core.model import Feeds, Model
from modelkit.core.pruning import PruningTask

from .branches import Removal, removable_branches
from .ranking import Ranking, Study, rank
from .refit import Refit, refit

_MOST_WIDTHS = 32
_CLEARLY = 0.9  # an allocation must leave less of the other's error than this to be preferred: less is chance


@dataclass(frozen=True)
class ChannelOBSOptions:
    ridge: float = field(
        default=1e-3,
        metadata={"bounds": (0.0, 1e3), "help": "pull of refitted weights to the old ones"},
    )
    rows: int = field(default=16384, metadata={"bounds": (1, 1 << 24), "help": "output positions that each layer is fitted on"})
    rounds: int = field(default=3, metadata={"bounds": (0, 100), "help": "of fitting what the next ReLU or clip lets through"})
    measured: int = field(default=128, metadata={"bounds": (1, 1 << 20), "help": "samples that effects are measured on"})


@dataclass(frozen=True)
class _Weighing:
    """How much the measured effects count when widths are allocated. They are measured one by one and with only the next layers
    refitted. In the end all layers behind are, which makes up for much of a branch that goes whole; and small effects add up to
    more than their sum."""

    branches: float = 1.0
    power: float = 1.0

    def __call__(self, ranking: Ranking, allowed: list[int]) -> Array:
        effects = ranking.effects[allowed] ** self.power
        if ranking.branch is not None and allowed[0] == 0:
            effects[0] *= self.branches
        return effects


# Which is best depends on the network and the budget: the allocations that they lead to are tried.
_WEIGHINGS = (_Weighing(), _Weighing(0.6), _Weighing(0.3), _Weighing(0.6, power=0.75), _Weighing(0.3, power=0.75))


class ChannelOBS:
    """Widths by the measured effect on the model's outputs, units by structured OBS, layers refitted one after the other."""

    summary: ClassVar[str] = "removes the channels that the others can make up for, and refits the layers behind (structured OBS)"
    Options: ClassVar[type] = ChannelOBSOptions
    needs_data: ClassVar[bool] = True
    removes_branches: ClassVar[bool] = True

    def __init__(self, options: ChannelOBSOptions) -> None:
        self.options = options

    def prune(self, task: PruningTask) -> Model:
        o = self.options
        assert task.batches is not None
        batches = first_batches(task.batches(), task.model.graph)
        branches = removable_branches(task.channels)
        allowed = {group.name: allowed_widths(widths(group, task.round_to), group.name in branches) for group in task.channels}
        study = Study(o.measured, o.ridge, o.rows)
        rankings = rank(task.model, task.channels, batches, allowed, study, task.seed)
        kept = self._widths(task, batches, rankings, allowed)
        return self._carry_out(task, batches, rankings, kept)

    def _widths(
        self, task: PruningTask, batches: list[Feeds], rankings: Mapping[str, Ranking], allowed: Mapping[str, list[int]]
    ) -> dict[str, int]:
        """How many units of each group are kept. Where speed is asked for, candidates are measured whole, and the limit of what
        is predicted is moved until the measurement is met."""
        cost = _Costs(task, rankings, allowed)

        def propose(weighing: _Weighing, limit: float) -> dict[str, int] | None:
            effects = {name: weighing(ranking, allowed[name]) for name, ranking in rankings.items()}
            levels = allocate(effects, cost, limit)
            return None if levels is None else {name: allowed[name][level] for name, level in levels.items()}

        candidates = [(weighing, kept) for weighing in _WEIGHINGS if (kept := propose(weighing, task.limit)) is not None]
        weighing, first = self._best(task, batches, rankings, candidates) if candidates else (_WEIGHINGS[0], None)
        if task.measure is None:
            kept = first
        else:
            measure = task.measure
            met = meet(
                lambda limit: propose(weighing, limit),
                lambda kept: measure(_candidate(task, rankings, kept)),
                task.budget.value,
                task.limit,
            )
            kept = None if met is None else met[1]
        if kept is not None:
            return kept
        raise unreachable(task, cost(dict.fromkeys(rankings, 0)))

    def _best(
        self, task: PruningTask, batches: list[Feeds], rankings: Mapping[str, Ranking],
        candidates: list[tuple[_Weighing, dict[str, int]]],
    ) -> tuple[_Weighing, dict[str, int]]:  # fmt: skip
        """The candidate whose outputs are the nearest to the original's on data that it is not fitted on, the first if no other
        is clearly nearer. Each is tried on a part of the batches."""
        different = [one for i, one in enumerate(candidates) if one[1] not in [kept for _, kept in candidates[:i]]]
        count = max(1, -(-self.options.measured // len(next(iter(batches[0].values())))))
        held = batches[count : 2 * count]
        if len(different) == 1 or not held:
            return different[0]
        expected = list(task.model.observe(held, []))
        quick = replace(self.options, rows=max(1, self.options.rows // 4))

        def error(kept: dict[str, int]) -> float:
            tried = ChannelOBS(quick)._carry_out(replace(task, model=task.model.copy()), batches[:count], rankings, kept)
            return output_error(tried.observe(held, []), expected, tried.graph.outputs)

        errors = [error(kept) for _, kept in different]
        errors[0] *= _CLEARLY
        return different[errors.index(min(errors))]

    def _carry_out(
        self, task: PruningTask, batches: list[Feeds], rankings: Mapping[str, Ranking], kept: Mapping[str, int]
    ) -> Model:
        o, model = self.options, task.model
        original = model.copy()
        removal = Removal.of(original.graph, _gone(rankings, kept), task.fixed)
        cut = task.channels.cut(_masks(task.channels, rankings, kept))
        model.shrink(cut)
        removal.silence(model)
        refit(original, model, cut, batches, Refit(o.ridge, o.rows, o.rounds, task.seed), task.fixed, removal)
        removal.carry_out(model)
        return model


def _candidate(task: PruningTask, rankings: Mapping[str, Ranking], kept: Mapping[str, int]) -> Model:
    """A model of these widths, whatever it computes: enough to be timed."""
    model = task.model.copy()
    model.shrink(task.channels.cut(_masks(task.channels, rankings, kept)))
    Removal.of(task.channels.graph, _gone(rankings, kept), task.fixed).carry_out(model)
    return model


def _gone(rankings: Mapping[str, Ranking], kept: Mapping[str, int]) -> list[Branch]:
    """The branches of which nothing is kept."""
    return [branch for name, count in kept.items() if count == 0 and (branch := rankings[name].branch) is not None]


def allowed_widths(every: list[int], removable: bool) -> list[int]:
    """At most so many of the widths, evenly spread, and 0 where the branch may go."""
    step = -(-len(every) // _MOST_WIDTHS)
    return [*([0] if removable else []), *every[::-1][::step][::-1]]


def _masks(channels: Channels, rankings: Mapping[str, Ranking], kept: Mapping[str, int]) -> dict[str, Mask]:
    return {group.name: rankings[group.name].mask(kept[group.name]) for group in channels if kept[group.name] < group.size}


class _Costs:
    """What the model costs with some levels of `allowed`: asked for thousands of times, so pieces are kept."""

    def __init__(self, task: PruningTask, rankings: Mapping[str, Ranking], allowed: Mapping[str, list[int]]) -> None:
        self._task, self._rankings, self._allowed = task, rankings, allowed
        self._cuts: dict[tuple[str, int], Cut] = {}
        self._nodes: dict[object, Node] = {}

    def __call__(self, levels: Levels) -> float:
        kept = {name: self._allowed[name][level] for name, level in levels.items()}
        channels = self._task.channels
        cut = Cut.joined(self._cut(group, kept[group.name]) for group in channels if kept[group.name] < group.size)
        gone = {layer for branch in _gone(self._rankings, kept) for layer in branch.layers}
        return self._task.cost(_without(cut.resized(channels.graph, self._nodes), gone))

    def _cut(self, group: ChannelGroup, kept: int) -> Cut:
        if (group.name, kept) not in self._cuts:
            self._cuts[group.name, kept] = group.cut(self._rankings[group.name].mask(kept))
        return self._cuts[group.name, kept]


def _without(graph: Graph, gone: set[str]) -> Graph:
    return replace(graph, nodes=tuple(node for node in graph.nodes if node.name not in gone)) if gone else graph
