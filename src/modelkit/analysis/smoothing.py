"""Which activations can be smoothed: scaled per feature, with the weights of all the layers that read the quantised value scaled
the other way. The arithmetic is in `algorithms/quantize/smooth.py`."""

from __future__ import annotations

from modelkit.core.graph import Graph

from .placement import Placement


def smoothable(graph: Graph, placement: Placement) -> dict[str, tuple[str, ...]]:
    """Activations whose grid only linear layers read, with those layers: {edge: layer names}."""
    found = {}
    for edge, readers in placement.readers.items():
        if readers and all(graph.by_name[name].kind == "linear" for name in readers) and graph.edges[edge].dtype == "float32":
            found[edge] = tuple(sorted(readers))
    return found
