"""The chosen factors, made: each layer's from its own inputs, or one layer after the other to the original's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from modelkit.algorithms.lowrank.refit import PULLS, Pairs, Regression
from modelkit.algorithms.lowrank.truncation import power
from modelkit.analysis.effects import effect
from modelkit.analysis.fit_points import FitPoint, fit_point
from modelkit.analysis.held import Held
from modelkit.core.forms import Array
from modelkit.core.graph import Node
from modelkit.core.lowrank import LowRank, LowRankPass, Metric
from modelkit.core.model import Feeds, Model, finite_weight

from .choices import Choice, Unit, Weighed, Weights, as_matrix, built
from .seen import pair
from .study import ROWS, Each, first_samples, set_weight, substitute, weigh

_HELD_OUT = 0.2  # of each batch's rows, for choosing the pull
_EXPONENTS = (1.0, 0.5)  # of the second moments of a layer's inputs, as the metric in which its weight is cut to a rank


def fit(
    base: Model, todo: Sequence[Unit], choice: Mapping[str, Choice], chosen: LowRankPass, batches: Sequence[Feeds], samples: int,
    seed: int, each: Each = iter,
) -> tuple[Model, dict[str, LowRank]]:  # fmt: skip
    """The base with every layer in `choice`, which has something (by `key`) for each unit, as its factors, and these.

    Refitted factors are made twice, for the least error of the layer's output, and halfway from that to the least error of the
    weight itself (the scaling of ASVD, Yuan et al. 2023, https://arxiv.org/abs/2312.05821), as an output's error is not the
    loss: those stay whose model gave outputs nearer to the base's on so many samples. `each` then sees every unit twice."""
    if not (batches and chosen.refits):
        return _on_their_own(base, todo, choice, chosen, batches, seed, each)
    measured = first_samples(batches, samples)
    expected = list(base.observe(measured, []))
    least, model, forms = float("inf"), base, dict[str, LowRank]()
    pulls: dict[str, float] = {}  # by `key`, found in the first round
    for exponent in _EXPONENTS:
        candidate, made = _one_after_the_other(base, todo, choice, chosen, batches, exponent, pulls, seed, each)
        error = effect(candidate, {}, measured, expected)
        if not forms or error < least:
            least, model, forms = error, candidate, made
    model.factorise(forms)
    return model, forms


def rounds(chosen: LowRankPass, batches: Sequence[Feeds]) -> int:
    """How often `fit` walks through its units."""
    return len(_EXPONENTS) if batches and chosen.refits else 1


def _on_their_own(
    base: Model, todo: Sequence[Unit], choice: Mapping[str, Choice], chosen: LowRankPass, batches: Sequence[Feeds], seed: int,
    each: Each,
) -> tuple[Model, dict[str, LowRank]]:  # fmt: skip
    model = base.copy()
    forms: dict[str, LowRank] = {}
    held = Held(base, batches, [[unit.edge] for unit in todo]) if batches else None
    for place, unit in enumerate(each(todo)):
        values = held.at(place) if held is not None else {}
        weights, means = weigh(model, unit, chosen, batches, values, seed)
        made = built(weights, choice[key(unit)])
        substitute(model, made, weights, means)
        forms |= made
    model.factorise(forms)
    return model, forms


def _one_after_the_other(
    base: Model, todo: Sequence[Unit], choice: Mapping[str, Choice], chosen: LowRankPass, batches: Sequence[Feeds],
    exponent: float, pulls: dict[str, float], seed: int, each: Each,
) -> tuple[Model, dict[str, LowRank]]:  # fmt: skip
    """The model has the weights that the forms stand for, and the biases that belong to them. Pulls that are not in `pulls` are
    found, and put there."""
    model = base.copy()
    forms: dict[str, LowRank] = {}
    points = {layer.name: fit_point(base.graph, layer) for unit in todo for layer in unit.layers}
    expected = Held(base, batches, [[points[layer.name].edge for layer in unit.layers] for unit in todo])
    now = Held(model, batches, [_needed(unit, points) for unit in todo])
    for place, unit in enumerate(each(todo)):
        if unit.layers[0].kind == "embedding":
            weights, means = weigh(model, unit, chosen, [], {}, seed)
            made = built(weights, choice[key(unit)])
            substitute(model, made, weights, means)
        else:
            wanted, given = expected.at(place), now.at(place)
            fits = {
                layer.name: _Fit(model, layer, chosen, unit.edge, batches, wanted, given, points[layer.name], exponent, seed)
                for layer in unit.layers
            }
            made = _refitted(model, unit, choice[key(unit)], fits, pulls)
        forms |= made
    return model, forms


def key(unit: Unit) -> str:
    return unit.layers[0].name


def _needed(unit: Unit, points: Mapping[str, FitPoint]) -> list[str]:
    offsets = [points[layer.name].offset for layer in unit.layers]
    return list(dict.fromkeys([unit.edge, *(edge for edge in offsets if edge is not None)]))


def _refitted(model: Model, unit: Unit, choice: Choice, fits: Mapping[str, _Fit], pulls: dict[str, float]) -> dict[str, LowRank]:
    def at(pull: float, part: str) -> dict[str, LowRank]:
        weighed = {}
        for name, one in fits.items():
            weighed[name] = Weighed(one.layer, one.regression(part).target(pull), one.metric(part, pull))
        return built(Weights(unit, weighed), choice)

    def loss(pull: float) -> float:
        made = at(pull, "training")
        return sum(fits[name].held_out_error(as_matrix(fits[name].layer, form.decode())) for name, form in made.items())

    if key(unit) not in pulls:
        pulls[key(unit)] = _least(loss)
    made = at(pulls[key(unit)], "all")
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
        expected: Mapping[str, list[Array]], now: Mapping[str, list[Array]], point: FitPoint, exponent: float, seed: int,
    ) -> None:  # fmt: skip
        self.layer, self.biased, self._exponent = layer, "bias" in layer.parameters, exponent
        self.W0 = as_matrix(layer, finite_weight(model, layer.name))
        self._rows = chosen.metric(layer, self.W0, None).rows
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

    def metric(self, part: str, pull: float) -> Metric:
        moments = self.regression(part).metric(pull)
        return Metric(moments if self._exponent == 1 else power(moments, self._exponent), self._rows)

    def held_out_error(self, W: Array) -> float:
        """As a share of what the outputs hold."""
        error = self.held_out.error(W, self.training.bias(W) if self.biased else None)
        return error / max(self.held_out.yy, 1e-300)
