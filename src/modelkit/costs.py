"""What a graph costs, in the unit of a budget; and how much faster a changed model is, measured."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .analysis.behind import behind, has_own_weight
from .analysis.synthetic import fixed_batch, synthetic_inputs
from .core.errors import SpeedWarning
from .core.graph import Graph, Node
from .core.model import Model

if TYPE_CHECKING:
    from .bench.speedup import Speedup

_CLOSE = 0.95  # of the speed-up asked for
_MOST_IN_LAYERS = 0.95  # of the model's time: alone, layers also pay for what neighbours share


def parameters(graph: Graph) -> float:
    """Weights that the nodes own, tied ones once."""
    sizes = {p.stored or (node.name, role): p.size for node in graph.nodes for role, p in node.parameters.items()}
    return float(sum(sizes.values()))


def with_new_biases(base: Graph) -> Callable[[Graph], float]:
    """Like `parameters`, for graphs that `base` is pruned to: layers behind a change have biases of their own, as they are given
    some to make up for it, and share none."""

    def count(graph: Graph) -> float:
        names = {node.name for node in behind(base, graph, _takes_bias)} & graph.by_name.keys()
        nodes = [_without_bias(node) if node.name in names else node for node in graph.nodes]
        return parameters(replace(graph, nodes=tuple(nodes))) + sum(_outputs(graph.by_name[name]) for name in names)

    return count


def _takes_bias(graph: Graph, node: Node) -> bool:
    return node.kind in ("linear", "conv") and has_own_weight(graph, node)


def _without_bias(node: Node) -> Node:
    return replace(node, parameters={role: p for role, p in node.parameters.items() if role != "bias"})


def _outputs(layer: Node) -> int:
    first, second = layer.parameters["weight"].shape[:2]
    return second * int(layer.attributes.get("groups", 1)) if layer.attributes.get("transposed") else first


def speedup_over(base: Model, threads: int | None, seed: int) -> Speedup:
    """Measures how many times as fast as `base` a model is, on one made-up sample."""
    from .bench.cpu import usable_cores
    from .bench.speedup import Speedup

    feeds = synthetic_inputs(base.graph, fixed_batch(base.graph) or 1, seed)
    return Speedup(base, feeds, threads or usable_cores())


def warn_if_slower(found: float, wanted: float, why: str = "") -> None:
    """Say so where a result is clearly less fast than was asked for."""
    if found < _CLOSE * wanted:
        message = f"The result was measured {found:.2f} times as fast as the original, not {wanted:g} times{why}."
        warnings.warn(SpeedWarning(message), stacklevel=3)


class Latency:
    """Milliseconds that a graph is predicted to take for one sample, from those of its layers, measured one by one in the runtime
    of the model's family. `speedup` measures a whole model: how many times as fast as the original it is.

    base: what graphs come from; it is the original with its batch norms folded, which is faster already where a runtime does not
    fold them itself. original_ms, base_ms: milliseconds of both, measured."""

    def __init__(self, original: Model, base: Model, threads: int | None, seed: int) -> None:
        from .bench.cpu import usable_cores
        from .bench.layer_latency import LayerLatency

        self.speedup = speedup_over(original, threads, seed)
        self._layers = LayerLatency("onnxruntime" if base.family == "onnx" else "torch", threads or usable_cores())
        self.original_ms, self.base_ms = self.speedup.latencies_ms(base)
        parts = self._layers(base.graph)
        self._scale = min(1.0, _MOST_IN_LAYERS * self.base_ms / max(parts, 1e-9))
        self._rest = self.base_ms - self._scale * parts

    def __call__(self, graph: Graph) -> float:
        return self._rest + self.part(graph)

    def part(self, graph: Graph) -> float:
        """Of a part of a graph, without what the rest of the model takes."""
        found = self._scale * self._layers(graph)
        self._layers.save()
        return found
