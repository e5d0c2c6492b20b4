"""After channels have gone without a refit: every output of the layers behind gets back the mean and the variance that it had.

This is batch norm statistics estimated anew on the calibration data, whether a batch norm is still there, was folded into the
layer before it (by us, or by whoever exported the file), or never was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from modelkit.algorithms.prune.restore import restoring
from modelkit.analysis.behind import behind, can_move
from modelkit.analysis.held import Held
from modelkit.analysis.rows import output_rows, places
from modelkit.core.channels import Cut
from modelkit.core.forms import Array, Dense
from modelkit.core.graph import Node
from modelkit.core.model import Feeds, Model

_ROWS = 1 << 15  # output positions that the means are taken over


def restore(original: Model, model: Model, cut: Cut, batches: Sequence[Feeds], fixed: Collection[str], seed: int) -> None:
    """Both models are walked side by side; `model` is the original shrunk by `cut`. fixed: layers to leave as they are."""
    nodes = [node for node in behind(original.graph, model.graph, can_move) if node.name not in fixed]
    random = np.random.default_rng(seed)
    expected = Held(original, batches, [[node.outputs[0]] for node in nodes])
    found = Held(model, batches, [[node.inputs[0]] for node in nodes])
    for step, node in enumerate(nodes):
        now = model.graph.by_name[node.name]
        source, target = now.inputs[0], now.outputs[0]
        y, x = expected.at(step)[node.outputs[0]], found.at(step)[source]
        run = model.segment([source], [target])
        before, after = [], []
        for index, whole in enumerate(y):
            left = cut.remains(node.outputs[0], whole)
            where = places(node, left.shape, max(1, _ROWS // len(y)), random)
            before.append(output_rows(node, left, where))
            after.append(output_rows(node, run({**batches[index], source: x[index]})[target], where))
        _transform(model, now, *restoring(np.concatenate(before), np.concatenate(after)))


def _transform(model: Model, node: Node, factor: Array, shift: Array) -> None:
    """Let the node give factor · y + shift for each of its output channels."""
    dtype: Any = np.dtype(node.parameters["weight"].dtype)
    weight, bias = model.parameter(node.name, "weight"), model.parameter(node.name, "bias")
    assert weight is not None
    if not (factor == 1).all():
        model.set_parameter(node.name, "weight", Dense((weight * _along_outputs(node, weight, factor)).astype(dtype)))
    bias = np.zeros(len(factor)) if bias is None else bias.reshape(-1).astype(np.float64)
    model.set_parameter(node.name, "bias", Dense((factor * bias + shift).astype(dtype)))


def _along_outputs(node: Node, weight: Array, factor: Array) -> Array:
    """The factors of output channels in a shape that broadcasts with the weight."""
    if not node.attributes.get("transposed"):
        return factor.reshape(-1, *[1] * (weight.ndim - 1))
    groups = int(node.attributes.get("groups", 1))  # (in, out / groups, *kernel): inputs of one group make its outputs
    each = np.repeat(factor.reshape(groups, -1), len(weight) // groups, axis=0)
    return each.reshape(*each.shape, *[1] * (weight.ndim - 2))
