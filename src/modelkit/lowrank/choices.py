"""What may become of the layers that read one value: the ways to factorise them, with the error of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from modelkit.algorithms.lowrank.projection import last_factor
from modelkit.algorithms.lowrank.spatial import separated
from modelkit.algorithms.lowrank.truncation import Spectrum, factors, spectrum
from modelkit.algorithms.lowrank.tucker import tucker2
from modelkit.analysis.chains import two_factors
from modelkit.analysis.products import matrix, weight_of
from modelkit.core.forms import Array
from modelkit.core.graph import Graph, Node
from modelkit.core.lowrank import LowRank, Metric, empty, full_rank

Scheme = Literal["svd", "shared", "spatial", "tucker"]
_LEVELS = 16  # ranks that are considered for each layer
_TUCKER_LEVELS = 8


@dataclass(frozen=True)
class Recipe:
    """How one layer is factorised. tucker has the ranks of inputs and of outputs, the others one."""

    scheme: Scheme
    ranks: tuple[int, ...]

    def __str__(self) -> str:
        ranks = "×".join(map(str, self.ranks))
        return f"rank {ranks}" if self.scheme == "svd" else f"{self.scheme} rank {ranks}"


Choice = Mapping[str, Recipe]  # by layer; those that are not in it stay as they are


@dataclass(frozen=True)
class Unit:
    """Layers that read the same value, of which linear ones may share a first factor."""

    layers: tuple[Node, ...]

    @property
    def edge(self) -> str:
        return self.layers[0].inputs[0]


@dataclass(frozen=True)
class Weighed:
    """A layer's weight as a matrix (out, in), and what an error of it counts."""

    layer: Node
    W: Array
    metric: Metric

    @property
    def weight(self) -> Array:
        """In the neutral layout."""
        return weight_of(self.layer, self.W[None], self.layer.parameters["weight"].shape)

    @cached_property
    def separated(self) -> tuple[Array, Array]:
        """The convolution as a column and a row, of full rank: a lower one is the first so many of each."""
        weight = self.weight
        return separated(weight, min(weight.shape[1] * weight.shape[2], weight.shape[0] * weight.shape[3]))

    @cached_property
    def spectrum(self) -> Spectrum:
        return spectrum(self.W, self.metric)

    def energy(self) -> float:
        """Of its output, as the metric has it."""
        W = self.W if self.metric.rows is None else self.metric.rows[:, None] * self.W
        H = self.metric.columns
        return max(float(np.einsum("oi,oi->", W, W if H is None else W @ H)), 1e-300)


class Weights:
    """Those of a unit's layers, and what is made of them together: below each other, each output weighed so that each layer's
    counts the same."""

    def __init__(self, unit: Unit, layers: Mapping[str, Weighed]) -> None:
        self.unit, self.of = unit, layers

    @cached_property
    def shared(self) -> tuple[Array, Array, Spectrum]:
        """W (Σ out, in), how each row is weighed, and its spectrum."""
        parts = [self.of[layer.name] for layer in self.unit.layers]
        rows = [(np.ones(len(p.W)) if p.metric.rows is None else p.metric.rows) / np.sqrt(p.energy()) for p in parts]
        W, weight = np.concatenate([p.W for p in parts]), np.concatenate(rows)
        return W, weight, spectrum(W, Metric(parts[0].metric.columns, weight))


def units(graph: Graph, names: Iterable[str]) -> list[Unit]:
    """The layers of these names, those that can share a factor together, in the order in which the graph computes them."""
    found: dict[tuple[str, str], list[Node]] = {}
    for node in graph.nodes:
        if node.name in names:
            alone = "" if node.kind == "linear" else node.name
            found.setdefault((node.inputs[0], alone), []).append(node)
    return [Unit(tuple(layers)) for layers in found.values()]


def as_matrix(layer: Node, weight: Array) -> Array:
    """The weight (out, in) in float64; of a table, its transpose (dim, rows)."""
    return weight.T.astype(np.float64) if layer.kind == "embedding" else matrix(layer, weight)[0].astype(np.float64)


def choices(weights: Weights, round_to: int) -> list[tuple[Choice, float]]:
    """Ways to factorise the unit, with the sum of its layers' relative squared output errors."""
    unit, weighed = weights.unit, weights.of
    found = list(_separate(unit, {name: one.spectrum for name, one in weighed.items()}, round_to))
    if len(unit.layers) > 1:
        W, _, found_together = weights.shared
        errors, (outputs, width) = found_together.errors() * len(unit.layers), W.shape
        for rank in _ranks(width * outputs / (width + outputs), len(errors) - 1, round_to, _LEVELS):
            found.append(({layer.name: Recipe("shared", (rank,)) for layer in unit.layers}, float(errors[rank])))
    layer = unit.layers[0]
    if layer.kind == "conv":
        found += [({layer.name: recipe}, error) for recipe, error in _convolutions(layer, weighed[layer.name], round_to)]
    return found


def _separate(unit: Unit, spectra: Mapping[str, Spectrum], round_to: int) -> Iterator[tuple[Choice, float]]:
    """Each layer with a factor of its own, ranks where a rank's worth for its price is the same in all of them."""
    errors = {name: found.errors() for name, found in spectra.items()}
    prices, most = {}, {}
    for layer in unit.layers:
        rows, columns = _sides(layer)
        prices[layer.name] = rows + columns
        most[layer.name] = rows * columns / (rows + columns)
    first = unit.layers[0].name
    seen: set[tuple[tuple[str, int], ...]] = set()
    for rank in _ranks(most[first], len(errors[first]) - 1, round_to, _LEVELS):
        worth = (errors[first][rank - 1] - errors[first][rank]) / prices[first]
        chosen = {}
        for layer in unit.layers:
            own = errors[layer.name]
            worths = (own[:-1] - own[1:]) / prices[layer.name]
            count = rank if layer.name == first else int(np.searchsorted(-worths, -worth, side="right"))
            count = max(round_to, round(count / round_to) * round_to) if layer.name != first else count
            if 0 < count < min(most[layer.name], len(own)):
                chosen[layer.name] = count
        key = tuple(sorted(chosen.items()))
        if chosen and key not in seen:
            seen.add(key)
            yield (
                {name: Recipe("svd", (count,)) for name, count in chosen.items()},
                float(sum(errors[name][count] for name, count in chosen.items())),
            )


def _convolutions(layer: Node, weighed: Weighed, round_to: int) -> Iterator[tuple[Recipe, float]]:
    outputs, inputs, *kernel = layer.parameters["weight"].shape
    if prod(kernel) == 1:
        return
    recipes = []
    if len(kernel) == 2 and min(kernel) > 1:
        most = outputs * inputs * prod(kernel) / (inputs * kernel[0] + outputs * kernel[1])
        limit = min(inputs * kernel[0], outputs * kernel[1])
        recipes += [Recipe("spatial", (rank,)) for rank in _ranks(most, limit, round_to, _TUCKER_LEVELS)]
    for share in np.linspace(1, 0, _TUCKER_LEVELS, endpoint=False)[1:]:
        ranks = tuple(max(round_to, int(share * n) // round_to * round_to) for n in (inputs, outputs))
        if ranks[0] < inputs and ranks[1] < outputs:
            recipes.append(Recipe("tucker", ranks))
    for recipe in dict.fromkeys(recipes):
        yield recipe, _convolution(layer, weighed, recipe)[1]


def _ranks(most: float, full: int, round_to: int, levels: int) -> list[int]:
    """So many ranks below `most` (where the factors would be as large as the weight) and the full rank, evenly spread."""
    top = min(int(np.ceil(most)) - 1, full - 1) // round_to * round_to
    spread = np.linspace(top, 0, levels, endpoint=False)
    return sorted({max(round_to, int(rank) // round_to * round_to) for rank in spread}) if top >= round_to else []


def _sides(layer: Node) -> tuple[int, int]:
    rows, *others = layer.parameters["weight"].shape
    return rows, prod(others)


def built(weights: Weights, choice: Choice) -> dict[str, LowRank]:
    """The forms, float32. A factor is shared by all layers of a unit or by none."""
    unit, weighed = weights.unit, weights.of
    if any(recipe.scheme == "shared" for recipe in choice.values()):
        W, rows, found = weights.shared
        right, left = factors(W, found, choice[unit.layers[0].name].ranks[0], rows)
        first, start, forms = right.astype(np.float32), 0, {}
        for layer in unit.layers:
            end = start + len(weighed[layer.name].W)
            forms[layer.name] = LowRank((first, left[start:end].astype(np.float32)))
            start = end
        return forms
    return {layer.name: _built(layer, choice[layer.name], weighed[layer.name]) for layer in unit.layers if layer.name in choice}


def _built(layer: Node, recipe: Recipe, weighed: Weighed) -> LowRank:
    if recipe.scheme != "svd":
        return _convolution(layer, weighed, recipe)[0]
    rank = recipe.ranks[0]
    W, metric = weighed.W, weighed.metric
    right, left = (part.astype(np.float32) for part in factors(W, weighed.spectrum, rank, metric.rows))
    return two_factors(layer, right, left)


def _convolution(layer: Node, weighed: Weighed, recipe: Recipe) -> tuple[LowRank, float]:
    """The chain, its last factor fitted to the output, and the share of the output's energy that is lost."""
    shape = layer.parameters["weight"].shape
    if recipe.scheme == "spatial":
        column = weighed.separated[0][: recipe.ranks[0]]
        width = shape[3]
        placed = np.zeros((len(column), width, shape[1], shape[2], width))  # a hidden value at each place along the row
        for place in range(width):
            placed[:, place, :, :, place] = column[..., 0]
        P = matrix(layer, placed.reshape(-1, *shape[1:]))[0]
        U, error = last_factor(weighed.W, P, weighed.metric.columns)
        chain: tuple[Array, ...] = (column, U.reshape(shape[0], len(column), 1, width))
    else:
        before, core, behind = tucker2(weighed.weight, *recipe.ranks)
        P = matrix(layer, np.einsum("sr...,ri...->si...", core, before))[0]
        U, error = last_factor(weighed.W, P, weighed.metric.columns)
        chain = (before, core, U.reshape(behind.shape))
    return LowRank(tuple(factor.astype(np.float32) for factor in chain)), error


def sketched(unit: Unit, choice: Choice) -> dict[str, LowRank]:
    """Forms without values: enough to ask what they cost."""
    first: Array | None = None
    forms = {}
    for layer in unit.layers:
        if layer.name not in choice:
            continue
        recipe, (rows, *others) = choice[layer.name], layer.parameters["weight"].shape
        rank, ones = recipe.ranks[0], (1,) * (len(others) - 1)
        if recipe.scheme == "shared":
            form = empty((rank, others[0]), (rows, rank))
            first = form.factors[0] if first is None else first
            form = LowRank((first, form.factors[1]))
        elif recipe.scheme == "spatial":
            form = empty((rank, others[0], others[1], 1), (rows, rank, 1, others[2]))
        elif recipe.scheme == "tucker":
            last = recipe.ranks[1]
            form = empty((rank, others[0], *ones), (last, rank, *others[1:]), (rows, last, *ones))
        elif layer.kind == "embedding":
            form = empty((rows, rank), (others[0], rank), lookup=True)
        else:
            form = empty((rank, *others), (rows, rank, *ones))
        forms[layer.name] = form
    return forms


def of_rank(unit: Unit, rank: int) -> Choice:
    """Every layer with this rank, where it has a higher one."""
    return {layer.name: Recipe("svd", (rank,)) for layer in unit.layers if rank < full_rank(layer)}


def of_energy(weights: Weights, share: float) -> Choice:
    """Every layer with the least rank that keeps this share of its output's energy."""
    found = {}
    for layer in weights.unit.layers:
        lost = weights.of[layer.name].spectrum.errors()
        rank = max(1, int(np.argmax(lost <= 1 - share + 1e-12)))
        if rank < full_rank(layer):
            found[layer.name] = Recipe("svd", (rank,))
    return found
