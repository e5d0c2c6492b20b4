"""Which layers the rounding passes take."""

from __future__ import annotations

from modelkit.core.forms import sparse_pattern
from modelkit.core.graph import Node

_SMALLEST = 64  # weights: below this the scales outweigh what is saved


def skip_reason(layer: Node) -> str | None:
    """None, or why the layer is left alone."""
    weight = layer.parameters.get("weight")
    if layer.skip:
        return layer.skip
    if layer.kind == "recurrent":
        return "recurrent operator"
    if weight is None:
        return "no constant weight"
    if weight.form != "dense" and sparse_pattern(weight.form) is None:
        return f"already {weight.form}"
    if "float" not in weight.dtype:
        return f"weight is {weight.dtype}"
    if weight.size < _SMALLEST:
        return f"only {weight.size} weights"
    return None


def adds_pairs(layer: Node) -> bool:
    """Whether a CPU without VNNI adds products of the layer in 16 bits: kernels for depthwise convolutions do not."""
    weight = layer.parameters["weight"]
    return not (layer.kind == "conv" and weight.shape[1] == 1 and layer.attributes.get("groups") == weight.shape[0])


def channel_axis(layer: Node) -> int:
    """The axis of the weight along which each channel has a scale of its own: the layer's output channels (table rows)."""
    return 1 if layer.attributes.get("transposed") and layer.attributes.get("groups", 1) == 1 else 0
