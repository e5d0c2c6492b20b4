"""Small random-weight versions of the architectures modelkit must handle."""

from .architecture import Architecture
from .export import export_onnx, export_pt2
from .zoo import ARCHITECTURES

__all__ = ["ARCHITECTURES", "Architecture", "export_onnx", "export_pt2"]
