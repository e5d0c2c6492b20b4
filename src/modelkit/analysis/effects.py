"""What a change does to the model's outputs, run from where the change begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.model import Feeds, Model


def effect(
    variant: Model, given: Mapping[str, list[Array]], batches: Sequence[Feeds], expected: Sequence[Mapping[str, Array]]
) -> float:
    """‖ŷ − y‖² / ‖y‖², the mean over the model's float outputs. given: values, by batch, of edges that cut the graph; those that
    the variant has no more (a size that it states instead of computing it) are left out."""
    outputs = variant.graph.outputs
    given = {edge: values for edge, values in given.items() if edge in variant.graph.edges}
    run = variant.segment(list(given), outputs)
    found = (run({**batch, **{edge: values[i] for edge, values in given.items()}}) for i, batch in enumerate(batches))
    return output_error(found, expected, outputs)


def output_error(found: Iterator[Mapping[str, Array]], expected: Sequence[Mapping[str, Array]], outputs: Sequence[str]) -> float:
    off: dict[str, float] = {}
    size: dict[str, float] = {}
    for values, wanted in zip(found, expected, strict=True):
        for edge in outputs:
            y = wanted[edge]
            if y.dtype.kind != "f":
                continue
            y = y.astype(np.float64)
            seen = np.isfinite(y)
            off[edge] = off.get(edge, 0.0) + float(np.sum((values[edge].astype(np.float64)[seen] - y[seen]) ** 2))
            size[edge] = size.get(edge, 0.0) + float(np.sum(y[seen] ** 2))
    return float(np.mean([off[edge] / max(size[edge], 1e-30) for edge in off])) if off else 0.0
