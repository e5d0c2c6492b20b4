"""Networks composed at random of what couples channels, written as ONNX and as torch programs from one seed."""

from .compose import compose
from .onnx_writer import OnnxWriter
from .torch_writer import TorchWriter

__all__ = ["OnnxWriter", "TorchWriter", "compose"]
