"""What a model is run on while it is timed, and in which batches its quality is measured."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from modelkit.analysis.synthetic import fixed_batch
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array, numpy_dtype
from modelkit.core.graph import Graph, Input
from modelkit.core.model import Feeds
from modelkit.data import Dataset

LARGEST_BATCH = 256
BATCH_BYTES = 64 << 20  # of the widest activations of a batch


def check_batch_sizes(names: Sequence[str], graphs: Sequence[Graph], asked: Sequence[int] | None) -> list[int]:
    """The batch sizes to measure at: those asked for, else the one that a model fixes, else 1."""
    fixed = {name: size for name, graph in zip(names, graphs, strict=True) if (size := fixed_batch(graph)) is not None}
    sizes = list(dict.fromkeys(asked or [next(iter(fixed.values()), 1)]))
    for size in sizes:
        if size < 1:
            raise ModelkitError(f"{size} is not a batch size.", "Give --batch-size a whole number from 1, or several as 1,8.")
        for name, only in fixed.items():
            if size != only:
                raise ModelkitError(
                    f"{name} can only run with a batch size of {only}, not {size}.",
                    f"Use --batch-size {only}, or export the model with a dynamic batch.",
                )
    return sizes


def check_same_inputs(names: Sequence[str], graphs: Sequence[Graph]) -> None:
    """Models that are compared take the same inputs: as many, in one order, of equal type and sizes. Names may differ, as
    formats rename. Raises ModelkitError."""
    first = graphs[0].inputs
    for name, graph in zip(names[1:], graphs[1:], strict=True):
        if len(graph.inputs) != len(first) or not all(_agree(a, b) for a, b in zip(first, graph.inputs, strict=True)):
            raise ModelkitError(
                f"{names[0]} and {name} have different inputs: "
                f"{', '.join(map(str, first))} and {', '.join(map(str, graph.inputs))}.",
                "Compare models that take the same data; `modelkit bench` measures others side by side.",
            )


def _agree(a: Input, b: Input) -> bool:
    kinds = [("float" if "float" in it.dtype else "int" if "int" in it.dtype else it.dtype) for it in (a, b)]
    sizes = zip(a.dims, b.dims, strict=False)
    return (
        kinds[0] == kinds[1]
        and len(a.dims) == len(b.dims)
        and all(x == y or isinstance(x, str) or isinstance(y, str) for x, y in sizes)
    )


def timing_feeds(graph: Graph, batch_size: int, dataset: Dataset | None, seed: int) -> dict[str, Array]:
    """The first samples of the data (repeated if there are too few), else made-up ones: name → (batch_size, …)."""
    if dataset is None:
        from modelkit.analysis.synthetic import synthetic_inputs

        return dict(synthetic_inputs(graph, batch_size, seed))
    feeds, _, _ = next(iter(dataset.padded_batches(batch_size)))
    return dict(feeds)


def quality_batch_size(graphs: Sequence[Graph], dataset: Dataset) -> int:
    """A batch whose activations stay modest in every one of the models, or the one they fix."""
    for graph in graphs:
        if (size := fixed_batch(graph)) is not None:
            return size
    sample, _, _ = next(iter(dataset.padded_batches(1)))
    widest = max(_widest_bytes(graph) * _growth(graph, sample) ** 2 for graph in graphs)
    return int(np.clip(BATCH_BYTES // max(widest, 1), 1, LARGEST_BATCH))


def _growth(graph: Graph, sample: Feeds) -> float:
    """How much larger a sample of the data is than what the graph's shapes were found with (a longer text, say), at least 1.
    Attention grows with its square."""
    found = [1.0]
    for spec, array in zip(graph.inputs, sample.values(), strict=False):
        if (known := graph.shape(spec.name)) and prod(known):
            found.append(array.size / prod(known))
    return max(found)


def _widest_bytes(graph: Graph) -> int:
    """Bytes of the inputs and outputs of the node that has most, for one sample."""
    held = {name: prod(edge.shape or ()) * _width(edge.dtype) for name, edge in graph.edges.items()}
    return max((sum(held.get(name, 0) for name in (*node.inputs, *node.outputs)) for node in graph.nodes), default=0)


def _width(dtype: str) -> int:
    try:
        return numpy_dtype(dtype).itemsize
    except TypeError:  # strings, sequences
        return 1
