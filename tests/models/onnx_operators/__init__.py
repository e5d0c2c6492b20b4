"""One small ONNX model for each use of an operator that can be translated to torch."""

from . import layers, tensors
from .case import Case


def all_cases() -> list[Case]:
    """Every case, in a fixed order."""
    of_tensors = (tensors.elementwise, tensors.linear_algebra, tensors.shapes, tensors.indexing, tensors.reductions)
    of_layers = (layers.activations, layers.convolution, layers.pooling, layers.normalization, layers.resizing)
    others = (layers.recurrence, layers.attention, layers.quantization)
    return [case for family in (*of_tensors, *of_layers, *others) for case in family()]


__all__ = ["Case", "all_cases"]
