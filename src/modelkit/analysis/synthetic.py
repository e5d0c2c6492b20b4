"""Made-up inputs that a model can run on, when no data is given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelkit.core.forms import Array, numpy_dtype
from modelkit.core.graph import Graph, Input, Node

# What an index passes through unchanged on its way to a table.
_TRANSPARENT = ("reshape", "concat", "other", "elementwise", "activation")


def synthetic_inputs(graph: Graph, batch: int = 1, seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
    """Normal noise for float inputs, valid indices for integers that reach an embedding, the whole length for integers that are
    called lengths, ones for other integers and for masks.

    `sizes` binds symbolic dimensions by name; the first symbolic dimension of each input is the batch, others take the size
    that the graph was opened with.
    """
    rng = np.random.default_rng(seed)
    shapes = {spec.name: concrete_shape(graph, spec, batch, sizes) for spec in graph.inputs}
    return {spec.name: _values(graph, spec, shapes, rng) for spec in graph.inputs}


def fixed_batch(graph: Graph) -> int | None:
    """The batch size that the file fixes its inputs to; None where it is free."""
    return next((spec.dims[0] for spec in graph.inputs if spec.dims and isinstance(spec.dims[0], int)), None)


def concrete_shape(graph: Graph, spec: Input, batch: int, sizes: Mapping[str, int] | None = None) -> tuple[int, ...]:
    """`spec.dims` with numbers for symbols."""
    known = graph.shape(spec.name) or (1,) * len(spec.dims)
    return tuple(
        dim if isinstance(dim, int) else (sizes or {}).get(dim, batch if axis == 0 else known[axis])
        for axis, dim in enumerate(spec.dims)
    )


def _values(graph: Graph, spec: Input, shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator) -> Array:
    shape = shapes[spec.name]
    if "float" in spec.dtype:
        return rng.standard_normal(shape, dtype=np.float32).astype(numpy_dtype(spec.dtype))
    if spec.dtype == "bool":
        return np.ones(shape, bool)
    if spec.dtype == "uint8" and len(shape) > 2:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    rows = rows_indexed(graph, spec.name)
    if rows is None:
        return np.full(shape, _length(graph, shapes) if _counts(spec) else 1, numpy_dtype(spec.dtype))
    # Bags start at offsets: those must rise. Everything else may be any row.
    if _is_offsets(graph, spec.name):
        return (np.arange(shape[0]) if shape else np.zeros(shape)).astype(numpy_dtype(spec.dtype))
    return rng.integers(0, rows, shape).astype(numpy_dtype(spec.dtype))


def _counts(spec: Input) -> bool:
    """Whether an input says how much of each sample is to be read: nothing, if it were 1."""
    return len(spec.dims) == 1 and "len" in spec.name.lower()


def _length(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Of the samples: the size that the first input leaves open, else the largest."""
    spec = next((spec for spec in graph.inputs if len(spec.dims) > 1), None)
    if spec is None:
        return 1
    free = [size for dim, size in zip(spec.dims[1:], shapes[spec.name][1:], strict=True) if isinstance(dim, str)]
    return free[0] if free else max(shapes[spec.name][1:])


def rows_indexed(graph: Graph, edge: str) -> int | None:
    """The number of rows of the smallest table that `edge` indexes (through reshapes and the like); None if it indexes none."""
    found: list[int] = []
    seen: set[str] = set()
    stack = [edge]
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        for node in graph.consumers(current):
            if node.kind == "embedding":
                found.append(node.parameters["weight"].shape[0])
            elif node.kind in _TRANSPARENT and not _compares(node):
                # Only integers can be indices: a mask that turns into floats is none.
                stack.extend(out for out in node.outputs if out in graph.edges and graph.edges[out].dtype in ("int64", "int32"))
    return min(found) if found else None


def _compares(node: Node) -> bool:
    return node.function in ("equal", "less", "greater", "not_equal", "where")


def _is_offsets(graph: Graph, edge: str) -> bool:
    return any(node.attributes.get("offsets") == edge for node in graph.consumers(edge))
