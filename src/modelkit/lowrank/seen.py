"""What calibration shows of the layers' inputs and outputs, as rows."""

from __future__ import annotations

import numpy as np

from modelkit.analysis.products import convolved
from modelkit.analysis.rows import input_rows, output_rows, places
from modelkit.core.forms import Array
from modelkit.core.graph import Node
from modelkit.core.model import Feeds


def kept_positions(feeds: Feeds, shape: tuple[int, ...]) -> Array | None:
    """Which positions of a value (batch, …, features) count: where a mask among the model's inputs, of just these positions, is 1
    (padding behind a short text is computed as well, but nothing reads it). None: all."""
    for name, value in feeds.items():
        if "mask" in name and value.shape == shape[:-1] and value.dtype.kind in "iub" and np.isin(value, (0, 1)).all():
            found: Array = value.astype(bool)
            return found
    return None


def pair(
    layer: Node, feeds: Feeds, x: Array, y: Array | None, offset: Array | None, limit: int, random: np.random.Generator
) -> tuple[Array, Array | None]:
    """Rows of the layer's inputs, and of what it should give (y − offset), at the same positions; about `limit` of them.

    y: (batch, …) of the layer's output; None: no outputs are wanted."""
    if layer.kind == "linear":
        mask = kept_positions(feeds, x.shape)
        if mask is not None:
            x = x[mask][:, None]
            y, offset = (None if value is None else value[mask][:, None] for value in (y, offset))
    if y is not None:
        shape = y.shape
    elif layer.kind == "conv":
        shape = (len(x), 1, *convolved(x.shape[2:], layer.parameters["weight"].shape[2:], layer.attributes))
    else:
        shape = x.shape
    where = places(layer, shape, max(1, limit), random)
    X = input_rows(layer, x.astype(np.float32, copy=False), where)
    if y is None:
        return X, None
    wanted = y if offset is None else y - offset
    return X, output_rows(layer, wanted.astype(np.float32, copy=False), where)
