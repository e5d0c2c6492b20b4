"""What each way to factorise each unit does to the model's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.algorithms.allocation import interpolated
from modelkit.algorithms.prune.reconstruct import moments
from modelkit.analysis.effects import effect
from modelkit.analysis.fit_points import live_edges
from modelkit.analysis.held import Held
from modelkit.calibrate import not_finite
from modelkit.core.forms import Array, Dense
from modelkit.core.graph import Node
from modelkit.core.lowrank import LowRank, LowRankPass
from modelkit.core.model import Feeds, Model, finite_weight

from .choices import Choice, Unit, Weighed, Weights, as_matrix, built, choices
from .seen import pair

ROWS = 32768  # of a layer's inputs, over all batches
_TRIED = (0.0, 0.3, 0.7)  # shares of the choices at which the effect on the outputs is measured


@dataclass(frozen=True)
class Way:
    """One way to factorise a unit: its relative squared output error, its cost in the budget's unit, and the time that it is
    predicted to take as a share of what the unit takes as it is (0 where time does not matter)."""

    choice: Choice
    error: float
    cost: float
    time: float = 0.0


@dataclass(frozen=True)
class Options:
    """The ways of a unit, cheapest first, the last of which is no change at all, and what each does to the model's outputs."""

    unit: Unit
    ways: list[Way]
    effects: Array

    def within(self, time: float) -> Options:
        """Those that take at most this share of the unit's time, and no change."""
        kept = [i for i, way in enumerate(self.ways) if way.time <= time or not way.choice]
        return Options(self.unit, [self.ways[i] for i in kept], self.effects[kept])


Each = Callable[[Sequence[Unit]], Iterator[Unit]]  # gives each, and shows that it is done
Allowed = Callable[[Unit, Sequence[tuple[Choice, float]]], list[Way]]  # finds costs, and leaves out what may not be chosen


def study(
    model: Model, found: Sequence[Unit], chosen: LowRankPass, batches: Sequence[Feeds], samples: int, round_to: int,
    allowed: Allowed, dense_cost: Callable[[Unit], float], seed: int, each: Each = iter,
) -> list[Options]:  # fmt: skip
    """One walk through the model, or none without batches: then an effect is the relative error of a unit's weights.

    samples: how many the effects are measured on. allowed: (choice, cost, error) of those that may be chosen."""
    steps = [_edges(model, unit) for unit in found] if batches else []
    held = Held(model, batches, steps) if batches else None
    measured = first_samples(batches, samples)
    expected = list(model.observe(measured, [])) if batches else []
    options = []
    for place, unit in enumerate(each(found)):
        values = held.at(place) if held is not None else {}
        weights, means = weigh(model, unit, chosen, batches, values, seed)
        ways = _best(allowed(unit, choices(weights, round_to)))
        if not ways:
            continue
        errors = np.array([way.error for way in ways] + [0.0])
        effects = errors
        if batches:
            given = {edge: values[edge][: len(measured)] for edge in _cut(model, unit)}
            seen = {}
            for level in {int(share * len(ways)) for share in _TRIED}:
                variant = model.copy()
                substitute(variant, built(weights, ways[level].choice), weights, means)
                seen[level] = effect(variant, given, measured, expected)
            effects = interpolated(errors[::-1], seen)
        options.append(Options(unit, [*ways, Way({}, 0.0, dense_cost(unit))], effects))
    return options


def first_samples(batches: Sequence[Feeds], samples: int) -> Sequence[Feeds]:
    """The batches that hold the first so many samples."""
    return batches[: -(-samples // len(next(iter(batches[0].values()))))] if batches else []


def weigh(
    model: Model, unit: Unit, chosen: LowRankPass, batches: Sequence[Feeds], values: Mapping[str, list[Array]], seed: int
) -> tuple[Weights, dict[str, Array]]:
    """The unit's weights with what the pass says that errors count, and the mean input of each layer that has a bias."""
    random = np.random.default_rng(seed)
    weighed, means = {}, {}
    for layer in unit.layers:
        W, H = as_matrix(layer, finite_weight(model, layer.name)), None
        if batches and chosen.needs != "nothing" and layer.kind != "embedding":
            each = ROWS // len(batches)
            rows = [pair(layer, feeds, values[unit.edge][i], None, None, each, random)[0] for i, feeds in enumerate(batches)]
            X = np.concatenate(rows)
            if "bias" in layer.parameters:
                means[layer.name], _, H = moments(X)
            else:
                H = (X.T @ X).astype(np.float64)
            if not np.isfinite(H).all():
                raise not_finite(layer)
        weighed[layer.name] = Weighed(layer, W, chosen.metric(layer, W, H))
    return Weights(unit, weighed), means


def substitute(model: Model, forms: Mapping[str, LowRank], weights: Weights, means: Mapping[str, Array]) -> None:
    """Give layers the weights that their forms stand for, and biases that keep the mean output."""
    for layer in weights.unit.layers:
        if layer.name not in forms:
            continue
        weight = forms[layer.name].decode()
        shift = None
        if layer.name in means:
            shift = (weights.of[layer.name].W - as_matrix(layer, weight)) @ means[layer.name]
        set_weight(model, layer, weight, shift)


def set_weight(model: Model, layer: Node, weight: Array, shift: Array | None) -> None:
    dtype = layer.parameters["weight"].dtype
    kind: Any = np.dtype(dtype) if dtype != "bfloat16" else weight.dtype
    model.set_parameter(layer.name, "weight", Dense(weight.astype(kind)))
    if shift is not None:
        bias = model.parameter(layer.name, "bias")
        assert bias is not None
        model.set_parameter(layer.name, "bias", Dense((bias + shift).astype(bias.dtype)))


def _cut(model: Model, unit: Unit) -> list[str]:
    return live_edges(model.graph, min(model.graph.position[layer.name] for layer in unit.layers))


def _edges(model: Model, unit: Unit) -> list[str]:
    return list(dict.fromkeys([unit.edge, *_cut(model, unit)]))


def _best(ways: list[Way]) -> list[Way]:
    """Those that no other beats in both cost and error, cheapest first."""
    best: list[Way] = []
    for way in sorted(ways, key=lambda way: (way.cost, way.error)):
        if not best or way.error < best[-1].error:
            best.append(way)
    return best
