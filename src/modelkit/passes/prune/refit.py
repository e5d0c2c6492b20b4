"""Every layer behind a change refitted, in order: to the original's output, from the inputs that the pruned model then gives."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from modelkit.algorithms.prune.reconstruct import Fit, constant
from modelkit.analysis.behind import behind, can_refit
from modelkit.analysis.fit_points import UNBOUNDED, FitPoint, fit_point
from modelkit.analysis.held import Held
from modelkit.analysis.products import matrix
from modelkit.analysis.rows import input_rows, output_rows, places
from modelkit.core.channels import Cut
from modelkit.core.forms import Array
from modelkit.core.graph import Node
from modelkit.core.model import Feeds, Model

from .branches import Removal
from .ranking import set_layer


@dataclass(frozen=True)
class Refit:
    """ridge: the pull towards the weight as it was cut, as a share of the inputs' mean square. rows: at most about so many pairs
    for each layer. rounds: of the fit to what the activations behind let through."""

    ridge: float
    rows: int
    rounds: int
    seed: int = 0


def refit(
    original: Model, model: Model, cut: Cut, batches: Sequence[Feeds], wanted: Refit, fixed: Collection[str],
    removal: Removal,
) -> None:  # fmt: skip
    """Both models are walked side by side; `model` is the original shrunk by `cut`.

    fixed: layers to leave as they are. removal: branches that will go, those for which nothing stands silenced; of layers in them
    only the bias of `constants` is fitted."""
    graph, changed = original.graph, {layer.name for layer in behind(original.graph, model.graph, can_refit)}
    points, layers = {}, []
    for layer in (node for node in graph.nodes if can_refit(graph, node)):
        if layer.name in removal.constants or not {layer.name} & {*fixed, *removal.layers}:
            points[layer.name] = point = fit_point(graph, layer, removal.joins, removal.layers)
            if layer.name in changed or point != fit_point(graph, layer):
                layers.append(layer)
    random = np.random.default_rng(wanted.seed)
    expected = Held(original, batches, [[points[layer.name].edge] for layer in layers])
    found = Held(model, batches, [_needed(layer, points[layer.name]) for layer in layers])
    for step, layer in enumerate(layers):
        point = points[layer.name]
        now = model.graph.by_name[layer.name]
        y = expected.at(step)[point.edge]
        values = found.at(step)
        offset = values[point.offset] if point.offset else None
        X, Y, S = _pairs(now, values[now.inputs[0]], [cut.remains(point.edge, wide) for wide in y], offset, wanted.rows, random)
        rounds = wanted.rounds if point.seen != UNBOUNDED else 0
        weight = model.parameter(layer.name, "weight")
        assert weight is not None
        W = matrix(now, weight)[0].astype(np.float64)
        if layer.name in removal.constants:
            set_layer(model, now, np.zeros_like(W), constant(Y, S, point.seen, rounds))
        else:
            set_layer(model, now, *Fit(X, wanted.ridge).clipped(Y, W, S, point.seen, rounds))


def _needed(layer: Node, point: FitPoint) -> list[str]:
    return [layer.inputs[0], *([point.offset] if point.offset else [])]


def _pairs(
    layer: Node, x: list[Array], y: list[Array], offset: list[Array] | None, rows: int, random: np.random.Generator
) -> tuple[Array, Array, Array | float]:
    """Rows of inputs, of wanted values, and of what is added to the layer's output."""
    inputs, wanted, added = [], [], []
    for index, target in enumerate(y):
        where = places(layer, target.shape, max(1, rows // len(y)), random)
        inputs.append(input_rows(layer, x[index], where))
        wanted.append(output_rows(layer, target, where))
        if offset is not None:
            added.append(output_rows(layer, offset[index], where))
    X, Y = (np.concatenate(parts).astype(np.float32, copy=False) for parts in (inputs, wanted))
    return X, Y, np.concatenate(added).astype(np.float32, copy=False) if added else 0.0
