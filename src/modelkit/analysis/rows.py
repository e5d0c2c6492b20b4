"""Pairs of rows that least squares works on: what a layer reads at an output position, and what is wanted there."""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.graph import Node, Shape

from .products import patches

Places = tuple[slice, ...]


def places(layer: Node, output: Shape, limit: int, random: np.random.Generator) -> Places:
    """Which positions to take of an output of this shape, the batch first: about `limit` in all, evenly spread, their start drawn
    by chance (borders are unlike the rest)."""
    space = output[1:-1] if layer.kind == "linear" else output[2:]
    taken: list[slice] = []
    for axis, size in enumerate(space):
        surplus = output[0] * prod(space[axis:]) / limit
        for done in taken:
            surplus *= 1 / done.step
        step = min(size, max(1, ceil(surplus ** (1 / (len(space) - axis)) - 1e-9)))
        taken.append(slice(int(random.integers(step)), None, step))
    return tuple(taken)


def input_rows(layer: Node, x: Array, where: Places) -> Array:
    """(rows, inputs), the inputs in the order (*kernel, channel). Of an ungrouped convolution or a linear layer."""
    if layer.kind == "linear":
        return np.ascontiguousarray(x[(slice(None), *where)]).reshape(-1, x.shape[-1])
    kernel = layer.parameters["weight"].shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), *layer.attributes["padding"]))
    view = patches(padded, kernel, layer.attributes["stride"], layer.attributes["dilation"])[(slice(None), slice(None), *where)]
    return np.moveaxis(view, 1, -1).reshape(-1, prod(kernel) * x.shape[1])


def output_rows(layer: Node, y: Array, where: Places) -> Array:
    """(rows, outputs), at the same positions."""
    if layer.kind == "linear":
        return np.ascontiguousarray(y[(slice(None), *where)]).reshape(-1, y.shape[-1])
    return np.moveaxis(y[(slice(None), slice(None), *where)], 1, -1).reshape(-1, y.shape[1])
