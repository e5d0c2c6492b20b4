"""From the shape of a sample in the data to the shape the model wants: channel order, channel dimension, flattening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ..core.forms import Array
from ..core.graph import Shape

Dims = Sequence[int | str]


@dataclass(frozen=True)
class Layout:
    """Permute the axes of a sample by `order`, then reshape it to `shape`; None leaves it. `assumed` says what was guessed."""

    order: tuple[int, ...] | None = None
    shape: Shape | None = None
    channel_axis: int | None = None  # of the sample as given, where the layout tells
    assumed: str = ""

    def of(self, given: Shape) -> Shape:
        """The shape that a sample of shape `given` gets."""
        if self.shape is not None:
            return self.shape
        return given if self.order is None else tuple(given[axis] for axis in self.order)

    def apply(self, batch: Array) -> Array:
        if self.order is not None:
            batch = batch.transpose(0, *(axis + 1 for axis in self.order))
        return batch if self.shape is None else batch.reshape(len(batch), *self.shape)


def matches(given: Shape, wanted: Dims) -> bool:
    return len(given) == len(wanted) and all(isinstance(w, str) or g == w for g, w in zip(given, wanted, strict=True))


def fit(given: Shape, wanted: Dims) -> Layout | None:
    """How a sample of shape `given` becomes one of shape `wanted` (no batch dimension in either); None if it can't."""
    if matches(given, wanted):
        return Layout()
    if len(given) == len(wanted) == 3:
        height, width, channels = given
        if isinstance(wanted[0], int) and matches((channels, height, width), wanted):
            return Layout(order=(2, 0, 1), channel_axis=2)
        channels, height, width = given
        if isinstance(wanted[2], int) and matches((height, width, channels), wanted):
            return Layout(order=(1, 2, 0), channel_axis=0)
    if len(wanted) == 3 and len(given) == 2:
        for axis in (0, 2):
            if wanted[axis] == 1 and matches(given, [w for i, w in enumerate(wanted) if i != axis]):
                return Layout(shape=(1, *given) if axis == 0 else (*given, 1))
    sizes = tuple(w for w in wanted if isinstance(w, int))
    if len(sizes) == len(wanted) and prod(sizes) == prod(given):
        same_but_ones = [g for g in given if g != 1] == [w for w in sizes if w != 1]
        if same_but_ones or len(given) <= 1 or len(sizes) <= 1:
            spread = len(given) == 3 and min(given[0], given[2]) > 1 and not same_but_ones
            return Layout(shape=sizes, assumed="its values were flattened in the order they are stored in" if spread else "")
    return None
