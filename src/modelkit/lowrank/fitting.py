"""The chosen factors, made: each layer's from its own inputs, or one layer after the other to the original's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from modelkit.algorithms.lowrank.refit import PULLS, Pairs, Regression
from modelkit.analysis.fit_points import FitPoint, fit_point
from modelkit.analysis.held import Held
from modelkit.core.forms import Array
from modelkit.core.graph import Node
from modelkit.core.lowrank import LowRank, LowRankPass, Metric
from modelkit.core.model import Feeds, Model
from modelkit.quantize import finite_weight

from .choices import Choice, Unit, Weighed, Weights, as_matrix, built
from .seen import pair
from .study import ROWS, Each, set_weight, substitute, weigh

_HELD_OUT = 0.2  # of each batch's rows, for choosing the pull


def fit(
    model: Model, todo: Sequence[Unit], choice: Mapping[str, Choice], chosen: LowRankPass, batches: Sequence[Feeds], seed: int,
    each: Each = iter,
) -> dict[str, LowRank]:  # fmt: skip
    """The form of every layer in `choice`, which has something (by `key`) for each unit. `model` gets the weights that they stand
    for, and the biases that belong to them."""
    forms: dict[str, LowRank] = {}
    if not (batches and chosen.refits):
        held = Held(model.copy(), batches, [[unit.edge] for unit in todo]) if batches else None
        for place, unit in enumerate(each(todo)):
            values = held.at(place) if held is not None else {}
            weights, means = weigh(model, unit, chosen, batches, values, seed)
            made = built(weights, choice[key(unit)])
            substitute(model, made, weights, means)
            forms |= made
        return forms
    original = model.copy()
    points = {layer.name: fit_point(original.graph, layer) for unit in todo for layer in unit.layers}
    expected = Held(original, batches, [[points[layer.name].edge for layer in unit.layers] for unit in todo])
    now = Held(model, batches, [_needed(unit, points) for unit in todo])
    for place, unit in enumerate(each(todo)):
        forms |= _refitted(model, unit, choice[key(unit)], chosen, batches, expected.at(place), now.at(place), points, seed)
    return forms


def key(unit: Unit) -> str:
    return unit.layers[0].name


def _needed(unit: Unit, points: Mapping[str, FitPoint]) -> list[str]:
    offsets = [points[layer.name].offset for layer in unit.layers]
    return list(dict.fromkeys([unit.edge, *(edge for edge in offsets if edge is not None)]))


def _refitted(
    model: Model, unit: Unit, choice: Choice, chosen: LowRankPass, batches: Sequence[Feeds],
    expected: Mapping[str, list[Array]], now: Mapping[str, list[Array]], points: Mapping[str, FitPoint], seed: int,
) -> dict[str, LowRank]:  # fmt: skip
    if unit.layers[0].kind == "embedding":
        weights, means = weigh(model, unit, chosen, [], {}, seed)
        made = built(weights, choice)
        substitute(model, made, weights, means)
        return made
    fits = {
        layer.name: _Fit(model, layer, chosen, unit.edge, batches, expected, now, points[layer.name], seed)
        for layer in unit.layers
    }

    def at(pull: float, part: str) -> dict[str, LowRank]:
        weighed = {}
        for name, one in fits.items():
            regression = one.regression(part)
            weighed[name] = Weighed(one.layer, regression.target(pull), Metric(regression.metric(pull), one.rows))
        return built(Weights(unit, weighed), choice)

    def loss(pull: float) -> float:
        made = at(pull, "training")
        return sum(fits[name].held_out_error(as_matrix(fits[name].layer, form.decode())) for name, form in made.items())

    made = at(_least(loss), "all")
    for name, form in made.items():
        one, weight = fits[name], form.decode()
        W = as_matrix(one.layer, weight)
        bias = model.parameter(name, "bias")
        set_weight(model, one.layer, weight, None if bias is None else one.every.bias(W) - bias)
    return made


def _least(loss: Callable[[float], float]) -> float:
    """The pull with the least loss, which falls and then rises with it: from the middle on downhill."""
    known: dict[int, float] = {}

    def at(place: int) -> float:
        if not 0 <= place < len(PULLS):
            return float("inf")
        if place not in known:
            known[place] = loss(PULLS[place])
        return known[place]

    place = len(PULLS) // 2
    step = 1 if at(place + 1) < at(place) else -1
    while at(place + step) < at(place):
        place += step
    return PULLS[place]


class _Fit:
    """One layer's pairs of rows, those that a fit sees and those that are held out."""

    def __init__(
        self, model: Model, layer: Node, chosen: LowRankPass, edge: str, batches: Sequence[Feeds],
        expected: Mapping[str, list[Array]], now: Mapping[str, list[Array]], point: FitPoint, seed: int,
    ) -> None:  # fmt: skip
        self.layer, self.biased = layer, "bias" in layer.parameters
        self.W0 = as_matrix(layer, finite_weight(model, layer.name))
        self.rows = chosen.metric(layer, self.W0, None).rows
        random, each = np.random.default_rng(seed), ROWS // len(batches)
        parts: list[list[tuple[Array, Array]]] = [[], []]
        for i, feeds in enumerate(batches):
            offset = None if point.offset is None else now[point.offset][i]
            X, Y = pair(layer, feeds, now[edge][i], expected[point.edge][i], offset, each, random)
            assert Y is not None
            cut = max(1, int(len(X) * (1 - _HELD_OUT)))
            parts[0].append((X[:cut], Y[:cut]))
            parts[1].append((X[cut:], Y[cut:]))
        # One product over all rows: moments are larger than the rows of a batch.
        self.training, self.held_out = (Pairs.of(*(np.concatenate(rows) for rows in zip(*part, strict=True))) for part in parts)
        self.every = self.training + self.held_out
        self._known: dict[str, Regression] = {}

    def regression(self, part: str) -> Regression:
        if part not in self._known:
            self._known = {part: Regression(self.training if part == "training" else self.every, self.W0, self.biased)}
        return self._known[part]

    def held_out_error(self, W: Array) -> float:
        """As a share of what the outputs hold."""
        error = self.held_out.error(W, self.training.bias(W) if self.biased else None)
        return error / max(self.held_out.yy, 1e-300)
