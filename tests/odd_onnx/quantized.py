"""Models that are already quantised, in each of the ways ONNX has for it."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from .case import Case, floats, model, odd, random

node = helper.make_node
SCALES = {"x_scale": np.float32(0.02), "x_zero": np.uint8(128), "y_scale": np.float32(0.05), "y_zero": np.uint8(120)}
KERNEL = np.arange(-54, 54, dtype=np.int8).reshape(4, 3, 3, 3)


@odd
def qdq() -> Case:
    """u8 activations, s8 per-channel weight stored in its bits, s32 bias: one convolution, and one linear layer left in float."""
    weights = SCALES | random(w=(64, 5)) | {
        "k": KERNEL,
        "k_scale": np.array([0.01, 0.02, 0.005, 0.01], np.float32),
        "k_zero": np.zeros(4, np.int8), "b": np.array([10, -20, 30, 0], np.int32),
        "b_scale": np.array([2e-4, 4e-4, 1e-4, 2e-4], np.float32), "b_zero": np.zeros(4, np.int32),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], name="x_quantize"),
        node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], name="x_dequantize"),
        node("DequantizeLinear", ["k", "k_scale", "k_zero"], ["kd"], name="k_dequantize", axis=0),
        node("DequantizeLinear", ["b", "b_scale", "b_zero"], ["bd"], name="b_dequantize", axis=0),
        node("Conv", ["xd", "kd", "bd"], ["c"], name="conv"),
        node("Relu", ["c"], ["r"], name="relu"),
        node("QuantizeLinear", ["r", "y_scale", "y_zero"], ["rq"], name="r_quantize"),
        node("DequantizeLinear", ["rq", "y_scale", "y_zero"], ["rd"], name="r_dequantize"),
        node("Flatten", ["rd"], ["f"], name="flatten"),
        node("MatMul", ["f", "w"], ["y"], name="fc"),
    ]
    return model(nodes, floats(x=(2, 3, 6, 6)), floats(y=(2, 5)), weights), random(x=(2, 3, 6, 6))


@odd
def qdq_float_weight() -> Case:
    """Fake quantisation as training tools write it: the float weight passes through a quantise/dequantise pair."""
    weights = SCALES | random(w=(6, 4)) | {"w_scale": np.float32(0.01), "w_zero": np.int8(0)}
    nodes = [
        node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], name="x_quantize"),
        node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], name="x_dequantize"),
        node("QuantizeLinear", ["w", "w_scale", "w_zero"], ["wq"], name="w_quantize"),
        node("DequantizeLinear", ["wq", "w_scale", "w_zero"], ["wd"], name="w_dequantize"),
        node("MatMul", ["xd", "wd"], ["y"], name="fc"),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), weights), random(x=(2, 6))


@odd
def qdq_int4_blocks() -> Case:
    """A 4-bit weight with one scale per block of two rows (opset 21)."""
    values = helper.make_tensor("w", TensorProto.INT4, [6, 4], [i % 16 - 8 for i in range(24)])
    scales = helper.make_tensor("w_scale", TensorProto.FLOAT, [3, 4], [0.05 + 0.01 * i for i in range(12)])
    nodes = [
        node("DequantizeLinear", ["w", "w_scale"], ["wd"], name="w_dequantize", axis=0, block_size=2),
        node("MatMul", ["x", "wd"], ["y"], name="fc"),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), [values, scales], 21, 10), random(x=(2, 6))


@odd
def dynamic_int8() -> Case:
    """MatMulInteger on an activation quantised at run time."""
    weights = {
        "w": np.arange(-12, 12, dtype=np.int8).reshape(6, 4), "w_zero": np.int8(0), "w_scale": np.float32(0.03),
    }  # fmt: skip
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["xq", "x_scale", "x_zero"], name="quantize"),
        node("MatMulInteger", ["xq", "w", "x_zero", "w_zero"], ["i"], name="fc"),
        node("Cast", ["i"], ["f"], name="cast", to=TensorProto.FLOAT),
        node("Mul", ["x_scale", "w_scale"], ["scale"], name="scale"),
        node("Mul", ["f", "scale"], ["y"], name="rescale"),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), weights), random(x=(2, 6))


@odd
def quantized_operators() -> Case:
    """The older operator-oriented form: QLinearConv and QLinearMatMul."""
    weights = SCALES | {
        "k": KERNEL,
        "w": np.arange(320).astype(np.int8).reshape(64, 5),
        "s": np.float32(0.01), "z": np.int8(0),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], name="quantize"),
        node("QLinearConv", ["xq", "x_scale", "x_zero", "k", "s", "z", "y_scale", "y_zero"], ["c"], name="conv"),
        node("Flatten", ["c"], ["f"], name="flatten"),
        node("QLinearMatMul", ["f", "y_scale", "y_zero", "w", "s", "z", "y_scale", "y_zero"], ["q"], name="fc"),
        node("DequantizeLinear", ["q", "y_scale", "y_zero"], ["y"], name="dequantize"),
    ]
    return model(nodes, floats(x=(2, 3, 6, 6)), floats(y=(2, 5)), weights), random(x=(2, 3, 6, 6))


@odd
def matmul_nbits() -> Case:
    """onnxruntime's packed 4-bit linear layer: weight (out, blocks, bytes)."""
    weights = {
        "w": np.arange(64, dtype=np.uint8).reshape(4, 1, 16), "w_scales": np.array([0.01, 0.02, 0.03, 0.04], np.float32),
    }  # fmt: skip
    nodes = [
        node("MatMulNBits", ["x", "w", "w_scales"], ["y"], name="fc", domain="com.microsoft", K=32, N=4, bits=4, block_size=32)
    ]
    return model(nodes, floats(x=(2, 32)), floats(y=(2, 4)), weights, domains={"com.microsoft": 1}), random(x=(2, 32))
