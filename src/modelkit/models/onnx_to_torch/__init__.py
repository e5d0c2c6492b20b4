"""The direction ONNX → torch of `modelkit convert`."""

from .program import program_from_onnx

__all__ = ["program_from_onnx"]
