"""Models as older exporters wrote them."""

from __future__ import annotations

import numpy as np
from onnx import helper

from .case import Case, floats, model, odd, random

node = helper.make_node


@odd
def opset8_cnn() -> Case:
    """Opset 8, IR 3, where every initializer must be a graph input too: old batch norm, Dropout, Reshape, Gemm with C."""
    weights = random(w1=(8, 3, 3, 3), scale=(8,), shift=(8,), mean=(8,), w2=(4, 8, 3, 3), w3=(5, 64), b3=(5,))
    weights["variance"] = np.linspace(0.5, 1.5, 8, dtype=np.float32)
    weights["flat"] = np.array([0, -1], np.int64)
    nodes = [
        node("Conv", ["image", "w1"], ["c1"], name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"], name="bn1", epsilon=1e-5, spatial=1),
        node("Relu", ["n1"], ["r1"], name="relu1"),
        node("MaxPool", ["r1"], ["p1"], name="pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2"], ["c2"], name="conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["r2"], name="relu2"),
        node("Dropout", ["r2"], ["d2", "mask"], name="dropout", ratio=0.5),
        node("Reshape", ["d2", "flat"], ["f2"], name="reshape"),
        node("Gemm", ["f2", "w3", "b3"], ["logits"], name="fc", transB=1),
    ]
    listed = floats(**{name: array.shape for name, array in weights.items() if name != "flat"})
    shape = helper.make_tensor_value_info("flat", 7, [2])
    inputs = [*floats(image=(2, 3, 8, 8)), *listed, shape]
    return model(nodes, inputs, floats(logits=(2, 5)), weights, opset=8, ir_version=3), random(image=(2, 3, 8, 8))


@odd
def opset9_initializers_as_inputs() -> Case:
    """Opset 9, IR 4, with initializers listed as inputs, which makes them defaults that a caller may override."""
    weights = random(w=(6, 4), b=(4,))
    nodes = [node("MatMul", ["x", "w"], ["y"], name="fc"), node("Add", ["y", "b"], ["z"], name="bias")]
    inputs = floats(x=(2, 6), w=(6, 4), b=(4,))
    return model(nodes, inputs, floats(z=(2, 4)), weights, opset=9, ir_version=4), random(x=(2, 6))


@odd
def opset11_clip_as_inputs() -> Case:
    """Clip bounds and Pad widths moved from attributes to inputs in opset 11; the second Clip leaves its minimum out."""
    weights = random(w1=(4, 3, 3, 3), w2=(4, 4, 1, 1)) | {
        "low": np.float32(0), "high": np.float32(6), "widths": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    }  # fmt: skip
    nodes = [
        node("Pad", ["image", "widths"], ["padded"], name="pad"),
        node("Conv", ["padded", "w1"], ["c1"], name="conv1"),
        node("Clip", ["c1", "low", "high"], ["relu6"], name="relu6"),
        node("Conv", ["relu6", "w2"], ["c2"], name="conv2"),
        node("Clip", ["c2", "", "high"], ["capped"], name="cap"),
        node("Squeeze", ["capped"], ["y"], name="squeeze", axes=[0]),
    ]
    return model(nodes, floats(image=(1, 3, 6, 6)), floats(y=(4, 6, 6)), weights, opset=11, ir_version=6), random(
        image=(1, 3, 6, 6)
    )


@odd
def opset12_batch_norm_outputs() -> Case:
    """A training export of opset 12: Dropout with ratio and mode inputs, and batch norm with its unused statistics as outputs."""
    weights = random(w=(4, 3, 1, 1), scale=(4,), shift=(4,), mean=(4,)) | {
        "variance": np.ones(4, np.float32), "ratio": np.float32(0.3), "training": np.bool_(False),
    }  # fmt: skip
    nodes = [
        node("Conv", ["image", "w"], ["c"], name="conv"),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"], name="bn", momentum=0.1),
        node("Dropout", ["n", "ratio", "training"], ["y", "mask"], name="dropout"),
    ]
    return model(nodes, floats(image=(2, 3, 4, 4)), floats(y=(2, 4, 4, 4)), weights, opset=12, ir_version=7), random(
        image=(2, 3, 4, 4)
    )


@odd
def opset21_group_norm() -> Case:
    """A recent opset with its own group normalisation."""
    weights = random(w=(4, 3, 3, 3), scale=(4,), shift=(4,))
    nodes = [
        node("Conv", ["image", "w"], ["c"], name="conv"),
        node("GroupNormalization", ["c", "scale", "shift"], ["n"], name="norm", num_groups=2),
        node("Gelu", ["n"], ["y"], name="gelu"),
    ]
    return model(nodes, floats(image=(2, 3, 6, 6)), floats(y=(2, 4, 4, 4)), weights, 21, 10), random(image=(2, 3, 6, 6))
