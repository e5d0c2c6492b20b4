"""What a compressing command gives back: the written model, and what became of each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from .core.graph import Graph, Node
from .core.model import Model

Stage = Callable[..., AbstractContextManager[Any]]  # a name and, where it is known, a number of parts


@dataclass
class LayerRecord:
    """What became of one layer, as the report has it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    form: str
    bytes_before: int
    bytes_after: int
    error: float | None = None
    skipped: str | None = None

    @classmethod
    def of(cls, layer: Node, form: str, bytes_after: int | None = None, skipped: str | None = None) -> LayerRecord:
        """Of a layer of the original. Without bytes_after: it takes as many as before."""
        shape = layer.parameters["weight"].shape if "weight" in layer.parameters else ()
        size = stored_bytes(layer)
        return cls(layer.name, layer.kind, shape, form, size, size if bytes_after is None else bytes_after, skipped=skipped)


def stored_bytes(*nodes: Node) -> int:
    """Of all parameters of these nodes."""
    return sum(parameter.bytes for node in nodes for parameter in node.parameters.values())


def planned_records(graph: Graph, skipped: Mapping[str, str], form: str) -> list[LayerRecord]:
    """What a dry run shows, where the size of a layer is only known when it is changed: `form`, or why it stays as it is."""
    return [
        LayerRecord.of(layer, "dense" if layer.name in skipped else form, skipped=skipped.get(layer.name))
        for layer in graph.layers()
    ]


@dataclass
class Result:
    """The opened result, with what the report needs of the way there. speedup: how many times as fast as the original, where that
    was measured."""

    model: Model
    layers: list[LayerRecord]
    seconds: float
    agreement: dict[str, float]
    speedup: float | None = None

    def record(self) -> dict[str, Any]:
        """What the report's record of the pass says of the work itself."""
        layers = [asdict(layer) for layer in self.layers]
        speed = {} if self.speedup is None else {"speedup": self.speedup}
        return {"seconds": round(self.seconds, 3), "layers": layers, **speed}
