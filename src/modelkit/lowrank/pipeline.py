"""`lowrank`, as a function: from an opened model to a published one with factorised layers and the facts for its report."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelkit.agreement import compare, comparison_batches, feeds_of, warn_if_collapsed
from modelkit.algorithms.allocation import allocate, meet
from modelkit.analysis.chains import alone, chained
from modelkit.analysis.held import Held
from modelkit.analysis.macs import node_macs
from modelkit.analysis.memory import first_batches, walk_batch
from modelkit.calibrate import loss_gradients
from modelkit.core.errors import ModelkitError, SizeWarning, SkippedWarning
from modelkit.core.graph import Graph
from modelkit.core.lowrank import LowRank, parts
from modelkit.core.model import Feeds, Model
from modelkit.costs import Latency, parameters, warn_if_slower
from modelkit.describe import total_bytes
from modelkit.publish import deliver
from modelkit.result import LayerRecord, Result, Stage, stored_bytes

from .choices import Choice, Unit, of_energy, of_rank, sketched
from .fitting import fit, key, rounds
from .planning import Factorisation, LowRankPlan
from .study import Each, Options, Way, study, weigh

if TYPE_CHECKING:
    from modelkit.data import Dataset

_FASTER = 1.01  # how many times as fast the whole must be measured: less can't be told from none
_TIMES = (0.97, 0.85, 0.7)  # shares of a layer's time that its factors may take: less where the whole was not faster
NOT_FASTER = "its factors are not faster than the layer (--always factorises it anyway)"
Choices = dict[str, Choice]  # by `key` of a unit


def lowrank(
    model: Model, wanted: Factorisation, plan: LowRankPlan, calibration: Dataset | None, out: Path, stage: Stage
) -> Result:
    """Carry out `plan`, write the result to `out` in its format, and say what became of every layer. Where no factors are faster,
    the model is written unchanged, with a warning."""
    started = time.perf_counter()
    base = plan.base
    batches = [] if calibration is None else calibration_batches(base, calibration)
    if wanted.chosen.learns:
        assert calibration is not None
        with stage("finding gradients"):
            layers = [layer for unit in plan.units for layer in unit.layers]
            wanted.chosen.learn(layers, loss_gradients(base, calibration, wanted.seed))
    latency = None
    if not wanted.always or wanted.budget.measure == "speedup":
        with stage("measuring the original"):
            latency = Latency(model, base, wanted.threads, wanted.seed)
    with stage("studying layers", len(plan.units)) as shown:
        search = _Search(base, wanted, plan, batches, latency, shown.each)
        chosen, speedup = search.chosen()
    result, forms = model.copy(), dict[str, LowRank]()
    if any(chosen.values()):
        changed = [unit for unit in plan.units if chosen.get(key(unit))]
        with stage("factorising", len(changed) * rounds(wanted.chosen, batches)) as shown:
            result, forms = fit(base, changed, chosen, wanted.chosen, batches, wanted.samples, wanted.seed, shown.each)
    else:
        warnings.warn(
            SkippedWarning(f"{search.why_none}: the model is written unchanged. --always makes it smaller anyway."),
            stacklevel=2,
        )
    samples = comparison_batches(model, calibration, wanted.seed)
    records = _records(model, result, plan, chosen, forms)
    found, errors, agreement = compare(base, result, [record.name for record in records if record.skipped is None], samples)
    for record in records:
        record.error = errors.get(record.name)
    published = deliver(model, result, wanted, out, stage, samples[0], found, unchanged=not forms)
    _warn(model, published, wanted, agreement, speedup, calibration is not None, bool(forms))
    return Result(published, records, time.perf_counter() - started, agreement, speedup)


class _Search:
    """Finds what becomes of each unit."""

    def __init__(
        self, base: Model, wanted: Factorisation, plan: LowRankPlan, batches: Sequence[Feeds], latency: Latency | None,
        each: Each,
    ) -> None:  # fmt: skip
        self.base, self.graph, self.wanted, self.units = base, base.graph, wanted, plan.units
        self.batches, self.latency, self.each = batches, latency, each
        self.why_none = "No layer's factors are faster than the layer itself on this machine"
        self._least: dict[str, float] = {}  # by key, the lowest cost of a unit, fast or not
        measure = wanted.budget.measure
        self.total: Callable[[Graph], float] = parameters
        self.part: Callable[[Graph], float] = parameters
        if measure == "macs":
            self.total, self.part = _macs, _macs
        elif measure == "speedup" and latency is not None:
            self.total, self.part = latency, latency.part
        self.whole = latency.original_ms if measure == "speedup" and latency is not None else self.total(self.graph)

    def chosen(self) -> tuple[Choices, float | None]:
        """The choice of each unit, and how much faster the whole was measured to be."""
        if self.wanted.budget.measure in ("rank", "energy"):
            return self._uniform()
        options = study(
            self.base, self.units, self.wanted.chosen, self.batches, self.wanted.samples, self.wanted.round_to,
            self._allowed, self._dense_cost, self.wanted.seed, self.each,
        )  # fmt: skip
        if self.wanted.budget.measure == "speedup":
            return self._fast(options)
        if self.latency is None:
            return self._within(options), None

        def at(time_allowed: float) -> Choices:
            faster = [one.within(time_allowed) for one in options]
            if time_allowed == _TIMES[0]:
                return self._within(faster)
            return self._allocated(faster, self._limit()) or {}

        return self._not_slower(at)

    def _not_slower(self, at: Callable[[float], Choices]) -> tuple[Choices, float | None]:
        """`at`: what is chosen of the ways that take at most a share of a layer's time; less, where the whole was slower."""
        for time_allowed in _TIMES:
            found = at(time_allowed)
            if not any(found.values()):
                break
            speedup = self._measured(found)
            if self._pays(speedup):
                return found, speedup
            self.why_none = "With narrower layers the whole model was not measured faster on this machine"
        return {}, None

    def _pays(self, speedup: float) -> bool:
        """Whether a result, so many times as fast as the original, owes some of that to its factors: folded batch norms may be
        what is faster."""
        assert self.latency is not None
        return speedup >= _FASTER * max(1.0, self.latency.original_ms / self.latency.base_ms)

    def _limit(self) -> float:
        return self.whole * self.wanted.budget.kept

    def _allowed(self, unit: Unit, ways: Sequence[tuple[Choice, float]]) -> list[Way]:
        """Those that cost less than the unit does, and are faster."""
        cost = self._least[key(unit)] = self._dense_cost(unit)
        found = []
        for choice, error in ways:
            made = self._made(unit, choice)
            own, share = self.part(made), self._time(unit, made)
            self._least[key(unit)] = min(self._least[key(unit)], own)
            if own < cost and share <= _TIMES[0]:
                found.append(Way(choice, error, own, share))
        return found

    def _dense_cost(self, unit: Unit) -> float:
        return self.part(alone(self.graph, list(unit.layers)))

    def _made(self, unit: Unit, choice: Choice) -> Graph:
        """The unit as it would be."""
        chain = chained(self.graph, sketched(unit, choice))
        rest = alone(self.graph, [layer for layer in unit.layers if layer.name not in choice])
        return Graph(chain.nodes + rest.nodes, {**chain.edges, **rest.edges}, (), ())

    def _time(self, unit: Unit, made: Graph) -> float:
        if self.latency is None:
            return 0.0
        before = self.latency.part(alone(self.graph, list(unit.layers)))
        return self.latency.part(made) / before if before > 0 else float("inf")

    def _within(self, options: Sequence[Options]) -> Choices:
        """The least harm within the budget; nothing where that is only in reach of factors that are no faster. Raises
        ModelkitError where it is out of reach of those, too."""
        found = self._allocated(options, self._limit())
        if found is not None:
            return found
        share = self._least_share(options)
        if self.total(self.graph) - sum(map(self._dense_cost, self.units)) + sum(self._least.values()) > self._limit():
            raise self._unreachable(share)
        self.why_none = (
            f"{self.wanted.budget} is out of reach of factors that are faster than their layers on this machine, with which "
            f"{share:.1%} stay at least"
        )
        return {}

    def _allocated(self, options: Sequence[Options], limit: float) -> Choices | None:
        """The least harm within the limit; None when that is out of reach."""
        if not options:
            return {}
        by_key = {key(one.unit): one for one in options}
        rest = self._rest(options)

        def cost(levels: Mapping[str, int]) -> float:
            return rest + sum(by_key[name].ways[level].cost for name, level in levels.items())

        levels = allocate({name: one.effects for name, one in by_key.items()}, cost, limit)
        return None if levels is None else {name: by_key[name].ways[level].choice for name, level in levels.items()}

    def _rest(self, options: Sequence[Options]) -> float:
        """The cost of what can't be chosen."""
        return self.total(self.graph) - sum(one.ways[-1].cost for one in options)

    def _least_share(self, options: Sequence[Options]) -> float:
        return (self._rest(options) + sum(one.ways[0].cost for one in options)) / self.whole

    def _unreachable(self, share: float) -> ModelkitError:
        budget = self.wanted.budget
        possible = f"{1 / share:.3g} or less" if budget.measure == "speedup" else f"{share + 0.0005:.3f}"
        otherwise = "" if self.wanted.always else ", or --always, which also factorises layers that get no faster"
        return ModelkitError(
            f"{budget} can't be reached: factors can be as small as {share:.1%} of the original.",
            f"Give --{budget.measure} {possible}{otherwise}.",
        )

    def _fast(self, options: Sequence[Options]) -> tuple[Choices, float | None]:
        if not options:
            return {}, None
        met = meet(lambda limit: self._allocated(options, limit), self._measured, self.wanted.budget.value, self._limit())
        if met is None:
            raise self._unreachable(self._least_share(options))
        speedup, found = met
        return (found, speedup) if self._pays(speedup) else ({}, None)

    def _uniform(self) -> tuple[Choices, float | None]:
        """The same rank, or the same share of energy, in every layer; without those that are not faster."""
        choices: Choices = {}
        times: dict[str, float] = {}
        for unit, choice in self._of_one_kind():
            for name, recipe in choice.items():
                layer = Unit((self.graph.by_name[name],))
                made = self._made(layer, {name: recipe})
                if self.wanted.always or self.part(made) < self.part(alone(self.graph, list(layer.layers))):
                    times[name] = self._time(layer, made)
                    choices[key(unit)] = {**choices.get(key(unit), {}), name: recipe}
        if self.latency is None:
            return choices, None
        return self._not_slower(
            lambda allowed: {unit: {n: r for n, r in choice.items() if times[n] <= allowed} for unit, choice in choices.items()}
        )

    def _of_one_kind(self) -> Iterator[tuple[Unit, Choice]]:
        budget, chosen = self.wanted.budget, self.wanted.chosen
        if budget.measure == "rank":
            yield from ((unit, of_rank(unit, int(budget.value))) for unit in self.units)
            return
        batches = self.batches if chosen.needs != "nothing" else []
        held = Held(self.base, batches, [[unit.edge] for unit in self.units]) if batches else None
        for place, unit in enumerate(self.each(self.units)):
            values = held.at(place) if held is not None else {}
            weights, _ = weigh(self.base, unit, chosen, batches, values, self.wanted.seed)
            yield unit, of_energy(weights, budget.value)

    def _measured(self, choices: Choices) -> float:
        assert self.latency is not None
        candidate = self.base.copy()
        forms: dict[str, LowRank] = {}
        for unit in self.units:
            forms |= sketched(unit, choices.get(key(unit), {}))
        if not forms:
            return 1.0
        candidate.factorise(forms)
        return self.latency.speedup(candidate, self.wanted.budget.value if self.wanted.budget.measure == "speedup" else None)


def _macs(graph: Graph) -> float:
    return float(sum(node_macs(graph, node) or 0 for node in graph.nodes))


def calibration_batches(model: Model, calibration: Dataset) -> list[Feeds]:
    return first_batches(feeds_of(model, calibration, walk_batch(model.graph)), model.graph)


def _records(before: Model, after: Model, plan: LowRankPlan, chosen: Choices, forms: Mapping[str, LowRank]) -> list[LayerRecord]:
    recipes = {name: recipe for choice in chosen.values() for name, recipe in choice.items()}
    records = []
    for layer in before.graph.layers():
        if layer.name in forms:
            made = [after.graph.by_name[layer.name], *parts(after.graph, layer.name)]
            records.append(LayerRecord.of(layer, str(recipes[layer.name]), stored_bytes(*made)))
            continue
        reason = plan.skipped.get(layer.name, NOT_FASTER if not recipes else "no lower rank pays")
        records.append(LayerRecord.of(layer, "dense", skipped=reason))
    return records


def _warn(
    before: Model, after: Model, wanted: Factorisation, agreement: Mapping[str, float], speedup: float | None, from_data: bool,
    changed: bool,
) -> None:  # fmt: skip
    if not changed:
        return
    old, new = total_bytes(before.files()), total_bytes(after.files())
    if new >= old:
        warnings.warn(SizeWarning(f"The result is not smaller: {new} bytes instead of {old}. Use lower ranks."), stacklevel=2)
    if wanted.budget.measure == "speedup" and speedup is not None:
        warn_if_slower(speedup, wanted.budget.value)
    warn_if_collapsed(agreement, from_data, "Use higher ranks", "recover it with `modelkit recover`")
