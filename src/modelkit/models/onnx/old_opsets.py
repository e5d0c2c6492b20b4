"""Models of old operator sets brought to one that per-axis quantisation needs."""

from __future__ import annotations

import re
from pathlib import Path

import onnx

from modelkit.core.errors import ModelkitError

from .tensors import Tensor

OLDEST_OPSET = 13  # per-axis DequantizeLinear, and axes as inputs
_CENTRED_RESIZE = 11  # since then, Resize counts from the pixels' centres unless it is told otherwise


def converted(
    model: onnx.ModelProto, tensors: dict[str, Tensor], opset: int, path: Path
) -> tuple[onnx.ModelProto, dict[str, Tensor]]:
    """`model` of `opset`, whose initializers are in `tensors`, at OLDEST_OPSET. Raises ModelkitError."""
    model.graph.initializer.extend(tensor.proto(name) for name, tensor in tensors.items())
    inputs = {value.name for value in model.graph.input}
    if model.ir_version < 4:  # the converter wants them there
        model.graph.input.extend(
            onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.shape)
            for name, tensor in tensors.items()
            if name not in inputs
        )
    try:
        new = onnx.version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # the converter raises plain RuntimeError and more, by operator
        reason = re.sub(r"\s+", " ", str(error)).strip().rstrip(".")[:160]
        raise ModelkitError(
            f"{path} (opset {opset}) can't be converted to opset {OLDEST_OPSET}: {reason}.", "Export it with opset 13 or newer."
        ) from error
    if opset < _CENTRED_RESIZE:
        _keep_corners(new)
    lifted = {
        proto.name: Tensor.from_proto(proto) for proto in new.graph.initializer if proto.data_type != onnx.TensorProto.STRING
    }
    strings = [proto for proto in new.graph.initializer if proto.data_type == onnx.TensorProto.STRING]
    new.graph.ClearField("initializer")
    new.graph.initializer.extend(strings)
    new.ir_version = max(new.ir_version, 7)
    return new, lifted


def _keep_corners(model: onnx.ModelProto) -> None:
    """Upsample and the first Resize counted from corners; the converter does not say so."""
    for node in model.graph.node:
        if node.op_type == "Resize" and not any(entry.name == "coordinate_transformation_mode" for entry in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(onnx.helper.make_attribute("nearest_mode", "floor"))
