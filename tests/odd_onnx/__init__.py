"""Odd but valid ONNX models, built without torch: what real exporters have written over the years."""

from . import control_flow, convolutions, opsets, quantized, structure, types, weights
from .case import CANNOT_RUN, CHECKER_REFUSES, ODD, Builder, Case, write

__all__ = [
    "CANNOT_RUN", "CHECKER_REFUSES", "ODD", "Builder", "Case", "write",
    "control_flow", "convolutions", "opsets", "quantized", "structure", "types", "weights",
]  # fmt: skip
