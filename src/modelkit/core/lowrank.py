"""A weight as a chain of narrower layers, and what a pass that finds such chains is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from .errors import ModelkitError
from .forms import Array
from .graph import Graph, Node
from .statistics import Needs

if TYPE_CHECKING:
    from .pruning import Gradients


@dataclass(frozen=True)
class LowRank:
    """A weight as the product of factors, in the order in which they compute; the first reads the layer's input.

    factors: (out, in, *kernel) each. A linear layer has (r, in) and (out, r). A convolution's kernel has each of its axes in one
    factor, the others are 1 long there. A table whose rows are looked up (`lookup`) has (rows, r) and (dim, r).
    Layers that read one value and whose first factor is the same array share the layer that it becomes.
    """

    factors: tuple[Array, ...]
    lookup: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        first, last = self.factors[0], self.factors[-1]
        if self.lookup:
            return first.shape[0], last.shape[0]
        return last.shape[0], first.shape[1], *(max(sizes) for sizes in zip(*(f.shape[2:] for f in self.factors), strict=True))

    @property
    def nbytes(self) -> int:
        return sum(factor.nbytes for factor in self.factors)

    def decode(self) -> Array:
        first, *rest = self.factors
        if self.lookup:
            decoded: Array = first @ rest[0].T
            return decoded
        weight = first
        for factor in rest:
            weight = np.einsum("sr...,ri...->si...", factor, weight)
        return weight

    def __str__(self) -> str:
        widths = [factor.shape[0] for factor in self.factors[:-1]]
        return f"rank {self.factors[-1].shape[1] if self.lookup else '×'.join(map(str, widths))}"


@dataclass(frozen=True)
class Stage:
    """One convolution of a chain: its weight, and its share of the original's attributes."""

    weight: Array
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]


def stages(layer: Node, form: LowRank) -> list[Stage]:
    """The convolutions that take the place of `layer`. What belongs to an axis goes with the factor that has the kernel there."""
    spatial = range(len(form.factors[0].shape) - 2)
    owner = [next((i for i, f in enumerate(form.factors) if f.shape[2 + axis] > 1), 0) for axis in spatial]

    def given(name: str, index: int, neutral: Any) -> tuple[Any, ...]:
        return tuple(layer.attributes[name][axis] if owner[axis] == index else neutral for axis in spatial)

    return [
        Stage(factor, given("stride", i, 1), given("padding", i, (0, 0)), given("dilation", i, 1))
        for i, factor in enumerate(form.factors)
    ]


def check_shape(layer: Node, form: LowRank) -> None:
    """Raises ModelkitError where a form does not fit the layer's weight."""
    wanted = layer.parameters["weight"].shape
    if form.shape != wanted:
        raise ModelkitError(f"{layer.name} has a weight of shape {list(wanted)}, not {list(form.shape)}.", "Keep the shape.")


def parts(graph: Graph, name: str) -> list[Node]:
    """The layers of the chain that stands in the place of a layer, or beside it; without the one that has its name."""
    return [graph.by_name[part] for part in (f"{name}.0", f"{name}.1") if part in graph.by_name]


def empty(*shapes: tuple[int, ...], lookup: bool = False) -> LowRank:
    """A form of these shapes that takes no memory: enough to ask what it costs."""
    return LowRank(tuple(np.broadcast_to(np.float32(0), shape) for shape in shapes), lookup)


def full_rank(layer: Node) -> int:
    """Of a layer's weight as a matrix (out, everything else)."""
    rows, *others = layer.parameters["weight"].shape
    return min(rows, prod(others))


@dataclass(frozen=True)
class Metric:
    """What an error E (out, in) of a weight counts: ‖diag(rows) E columns^½‖². None stands for the identity."""

    columns: Array | None = None  # (in, in), symmetric, not negative
    rows: Array | None = None  # (out,)


class LowRankPass(Protocol):
    """A plugin `lowrank.NAME`: what it says an error of a weight counts decides what is kept. `needs`: of the layer's inputs.
    `learns`: whether `learn` is called before the first `metric`. `refits`: whether factors are then fitted to the original's
    outputs, given what the changed layers before them give."""

    summary: ClassVar[str]
    Options: ClassVar[type]
    needs: ClassVar[Needs]
    learns: ClassVar[bool]
    refits: ClassVar[bool]

    def __init__(self, options: Any) -> None: ...

    def learn(self, layers: Sequence[Node], gradients: Gradients) -> None:
        """`gradients`: of the loss on calibration data, with respect to any of the layers' parameters."""
        ...

    def metric(self, layer: Node, weight: Array, moments: Array | None) -> Metric:
        """weight: (out, in). moments: Σ x xᵀ (in, in) of the layer's inputs, about their mean where it has a bias; None without
        data."""
        ...
