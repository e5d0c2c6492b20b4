"""Which layers the sparsity passes take, and how the result is stored."""

from __future__ import annotations

import numpy as np

from modelkit.analysis.products import matrix, weight_of
from modelkit.core.forms import Array, Dense, Sparse, WeightForm, sparse_pattern
from modelkit.core.graph import Node
from modelkit.core.sparsity import Sparsity

_SMALLEST = 64  # weights
_UNPACKING = 2048  # bytes that the operators which unpack a sparse weight take in a file


def skip_reason(layer: Node, sparsity: Sparsity) -> str | None:
    """None, or why the layer is left alone."""
    weight = layer.parameters.get("weight")
    if layer.skip:
        return layer.skip
    if layer.kind == "embedding":
        return "a table is looked up, not multiplied"
    if layer.kind not in ("linear", "conv"):
        return f"{layer.kind} operator"
    if weight is None:
        return "no constant weight"
    if weight.form != "dense" and sparse_pattern(weight.form) is None:
        return f"already {weight.form}: prune before quantising"
    if "float" not in weight.dtype:
        return f"weight is {weight.dtype}"
    if weight.size < _SMALLEST:
        return f"only {weight.size} weights"
    if sparsity.of is not None:
        channels = _input_channels(layer)
        if channels % sparsity.of:
            return f"its {channels} input channels are not groups of {sparsity.of}"
    return None


def _input_channels(layer: Node) -> int:
    shape = layer.parameters["weight"].shape
    if layer.kind == "conv" and layer.attributes.get("transposed"):
        return shape[0] // int(layer.attributes.get("groups", 1))
    return shape[1]


def matrices(layer: Node, weight: Array) -> Array:
    """The weight as float32 (groups, outputs, inputs)."""
    return matrix(layer, weight).astype(np.float32)


def stored(layer: Node, weight: Array, kept: Array, mask: Array, pattern: str) -> WeightForm:
    """The new form, from matrices (groups, outputs, inputs) of weights and of what is kept: sparse where that is smaller."""
    dense = weight_of(layer, kept, weight.shape).astype(weight.dtype)
    form = Sparse.of(dense, pattern, weight_of(layer, mask, weight.shape))
    if form.nbytes + _UNPACKING < dense.nbytes:
        return form
    return Dense(np.where(form.mask, dense, np.zeros((), dense.dtype)))
