"""How much memory a model's activations take."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from math import prod

from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.core.graph import Graph
from modelkit.core.model import Feeds

from .synthetic import fixed_batch

_LIVE_BYTES = 2 << 30  # of activations that walks may hold
_BATCH_BYTES = 32 << 20  # of activations while one batch is run
_LARGEST_BATCH = 32


def live_bytes(graph: Graph) -> int:
    """The most bytes, for one sample, of values that are computed and still needed at one time, when nodes run in their order.
    Values of unknown shape count as nothing."""
    last = {edge: index for index, node in enumerate(graph.nodes) for edge in node.inputs}
    sizes = {name: 4 * prod(edge.shape) for name, edge in graph.edges.items() if edge.shape is not None}
    live = sum(sizes.get(spec.name, 0) for spec in graph.inputs)
    peak = live
    for index, node in enumerate(graph.nodes):
        live += sum(sizes.get(edge, 0) for edge in node.outputs if edge in last)
        peak = max(peak, live)
        live -= sum(sizes.get(edge, 0) for edge in set(node.inputs) if last[edge] == index)
    return peak // (fixed_batch(graph) or 1)


def walk_batch(graph: Graph) -> int:
    """Samples per batch where a model is walked or run for its outputs: the size that the file fixes, or as many as keep what is
    live at one time small. (Where all activations of a batch are looked at, `calibrate.calibration_batch` counts those.)"""
    return fixed_batch(graph) or max(1, min(_LARGEST_BATCH, _BATCH_BYTES // max(live_bytes(graph), 1)))


def first_batches(batches: Iterable[Feeds], graph: Graph, walks: int = 2) -> list[Feeds]:
    """As many as so many walks side by side can hold the activations of; an InputWarning says where those are not all. Raises
    ModelkitError when there are none."""
    most = _LIVE_BYTES // walks // max(live_bytes(graph), 1)
    found: list[Feeds] = []
    count = 0
    for batch in batches:
        size = len(next(iter(batch.values())))
        if found and count + size > most:
            message = f"The activations of more than {count} samples would not fit in memory; {count} are used."
            warnings.warn(InputWarning(message), stacklevel=2)
            break
        found.append(batch)
        count += size
    if not found:
        raise ModelkitError("The calibration data holds no samples.", "Give at least one sample, better some hundred.")
    return found
