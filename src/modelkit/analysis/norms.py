"""Batch norms that can be folded into the layer before them: in inference they are an affine map per channel."""

from __future__ import annotations

from collections import Counter

import numpy as np

from modelkit.core.forms import Array, Dense, Sparse, WeightForm, sparse_pattern
from modelkit.core.graph import Graph, Node
from modelkit.core.model import Model


def foldable_norms(graph: Graph) -> list[tuple[Node, Node]]:
    """Pairs (layer, batch norm): the norm is the only reader of a convolution or linear layer whose weight is its own."""
    owners = Counter(p.stored[0] for node in graph.nodes for p in node.parameters.values() if p.stored)
    pairs = []
    for norm in graph.nodes:
        if norm.function != "batch" or norm.kind != "norm":
            continue
        layer = graph.producer(norm.inputs[0])
        if layer is None or layer.kind not in ("conv", "linear") or layer.skip or "weight" not in layer.parameters:
            continue
        channel_axis = 1 if layer.kind == "conv" else len(graph.shape(layer.outputs[0]) or (0, 0)) - 1
        shared = any(owners[p.stored[0]] > 1 for p in layer.parameters.values() if p.stored)
        if shared or channel_axis != 1 or graph.consumers(layer.outputs[0]) != (norm,) or layer.outputs[0] in graph.outputs:
            continue
        pairs.append((layer, norm))
    return pairs


def fold_norms(model: Model) -> list[str]:
    """Fold every batch norm that can be; returns the names of the layers changed. The function computed stays the same."""
    folded = []
    for layer, norm in foldable_norms(model.graph):
        mean, variance = model.parameter(norm.name, "mean"), model.parameter(norm.name, "variance")
        weight = model.parameter(layer.name, "weight")
        if mean is None or variance is None or weight is None:
            continue
        gain, shift, bias = (
            model.parameter(norm.name, "weight"),
            model.parameter(norm.name, "bias"),
            model.parameter(layer.name, "bias"),
        )
        factor = (1.0 if gain is None else gain.astype(np.float64)) / np.sqrt(
            variance.astype(np.float64) + float(norm.attributes.get("epsilon", 1e-5))
        )
        new_bias = ((0.0 if bias is None else bias) - mean) * factor + (0.0 if shift is None else shift)
        if layer.attributes.get("transposed"):
            # (in, out/groups, *kernel): output channels are groups × the second axis.
            groups = int(layer.attributes.get("groups", 1))
            split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
            new_weight = (split * factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)
        else:
            new_weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        model.set_parameter(layer.name, "weight", _as_before(layer, new_weight.astype(weight.dtype)))
        model.set_parameter(layer.name, "bias", Dense(new_bias.astype(weight.dtype)))
        model.remove(norm.name)
        folded.append(layer.name)
    return folded


def _as_before(layer: Node, weight: Array) -> WeightForm:
    """Scaled channels keep their zeros: a sparse weight stays one."""
    pattern = sparse_pattern(layer.parameters["weight"].form)
    return Dense(weight) if pattern is None else Sparse.of(weight, pattern)
