"""Pairs of rows that least squares works on: what a layer reads at an output position, and what is wanted there."""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.graph import Node, Shape

from .products import patches

Places = list[tuple[slice, ...]]  # for each few samples: which they are, and which positions of theirs

_TOGETHER = 4  # samples whose positions are the same


def places(layer: Node, output: Shape, limit: int, random: np.random.Generator) -> Places:
    """Which positions to take of an output of this shape, the batch first: about `limit` in all, evenly spread. Where they start
    is drawn by chance, anew every few samples: borders are unlike the rest, and strides behind are blind to some positions."""
    space = output[1:-1] if layer.kind == "linear" else output[2:]
    steps: list[int] = []
    for axis, size in enumerate(space):
        surplus = output[0] * prod(space[axis:]) / limit
        for step in steps:
            surplus *= 1 / step
        steps.append(min(size, max(1, ceil(surplus ** (1 / (len(space) - axis)) - 1e-9))))
    return [
        (slice(first, first + _TOGETHER), *(slice(int(random.integers(step)), None, step) for step in steps))
        for first in range(0, output[0], _TOGETHER)
    ]


def input_rows(layer: Node, x: Array, where: Places) -> Array:
    """(rows, inputs), the inputs in the order (*kernel, channel). Of an ungrouped convolution or a linear layer."""
    if layer.kind == "linear":
        return _rows(x, where, x.ndim - 1)
    kernel = layer.parameters["weight"].shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), *layer.attributes["padding"]))
    view = patches(padded, kernel, layer.attributes["stride"], layer.attributes["dilation"])
    return _rows(np.moveaxis(view, 1, -1), where, len(where[0]))


def output_rows(layer: Node, y: Array, where: Places) -> Array:
    """(rows, outputs), at the same positions."""
    return _rows(y if layer.kind == "linear" else np.moveaxis(y, 1, -1), where, y.ndim - 1)


def _rows(values: Array, where: Places, leading: int) -> Array:
    """`values` (samples, *positions, *columns) with `leading` dimensions before the columns."""
    return np.concatenate([values[part].reshape(-1, prod(values.shape[leading:])) for part in where])
