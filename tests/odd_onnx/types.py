"""Element types other than float32."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from .case import CANNOT_RUN, Case, flagged, floats, model, odd, random, typed

node = helper.make_node


@odd
def float16() -> Case:
    """Everything in float16, inputs too."""
    weights = {name: array.astype(np.float16) for name, array in random(k=(4, 3, 3, 3), w=(64, 5), b=(5,)).items()}
    nodes = [
        node("Conv", ["x", "k"], ["c"], name="conv"),
        node("Flatten", ["c"], ["f"], name="flatten"),
        node("Gemm", ["f", "w", "b"], ["y"], name="fc"),
    ]
    half = TensorProto.FLOAT16
    feeds = {"x": random(x=(2, 3, 6, 6))["x"].astype(np.float16)}
    return model(nodes, typed(half, x=(2, 3, 6, 6)), typed(half, y=(2, 5)), weights), feeds


@flagged(CANNOT_RUN, "onnxruntime has no bfloat16 MatMul on CPU")
def bfloat16() -> Case:
    weights = {"w": random(w=(6, 4))["w"].astype(ml_dtypes.bfloat16)}
    brain = TensorProto.BFLOAT16
    feeds = {"x": random(x=(2, 6))["x"].astype(ml_dtypes.bfloat16)}
    return model([node("MatMul", ["x", "w"], ["y"], name="fc")], typed(brain, x=(2, 6)), typed(brain, y=(2, 4)), weights), feeds


@odd
def bfloat16_weight() -> Case:
    """Stored as bfloat16, used as float32."""
    weights = {"w": random(w=(6, 4))["w"].astype(ml_dtypes.bfloat16)}
    nodes = [node("Cast", ["w"], ["wf"], name="widen", to=TensorProto.FLOAT), node("MatMul", ["x", "wf"], ["y"], name="fc")]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), weights), random(x=(2, 6))


@odd
def double() -> Case:
    """float64 throughout, as scikit-learn converters write it."""
    weights = {name: array.astype(np.float64) for name, array in random(w=(6, 4), b=(4,)).items()}
    wide = TensorProto.DOUBLE
    nodes = [node("MatMul", ["x", "w"], ["h"], name="fc"), node("Add", ["h", "b"], ["y"], name="bias")]
    return model(nodes, typed(wide, x=(2, 6)), typed(wide, y=(2, 4)), weights), {"x": random(x=(2, 6))["x"].astype(np.float64)}


@odd
def double_input() -> Case:
    """A float64 input, cast to float32 before the layers."""
    nodes = [node("Cast", ["x"], ["xf"], name="narrow", to=TensorProto.FLOAT), node("MatMul", ["xf", "w"], ["y"], name="fc")]
    feeds = {"x": random(x=(2, 6))["x"].astype(np.float64)}
    return model(nodes, typed(TensorProto.DOUBLE, x=(2, 6)), floats(y=(2, 4)), random(w=(6, 4))), feeds


@odd
def uint8_image() -> Case:
    """Pixels in bytes, scaled inside the model."""
    weights = random(k=(4, 3, 3, 3)) | {"scale": np.float32(1 / 255)}
    nodes = [
        node("Cast", ["image"], ["pixels"], name="cast", to=TensorProto.FLOAT),
        node("Mul", ["pixels", "scale"], ["x"], name="scale"),
        node("Conv", ["x", "k"], ["y"], name="conv"),
    ]
    pixels = np.arange(2 * 3 * 36, dtype=np.uint8).reshape(2, 3, 6, 6)
    return model(nodes, typed(TensorProto.UINT8, image=(2, 3, 6, 6)), floats(y=(2, 4, 4, 4)), weights), {"image": pixels}


@odd
def bool_and_int32_inputs() -> Case:
    """A mask, and indices in int32."""
    weights = random(table=(10, 6), w=(6, 4)) | {"minus": np.float32(-3.4e38)}
    nodes = [
        node("Gather", ["table", "ids"], ["e"], name="embedding"),
        node("MatMul", ["e", "w"], ["h"], name="fc"),
        node("Where", ["keep", "h", "minus"], ["m"], name="mask"),
        node("Softmax", ["m"], ["y"], name="softmax", axis=-1),
    ]
    inputs = [*typed(TensorProto.INT32, ids=(2, 3)), *typed(TensorProto.BOOL, keep=(2, 3, 4))]
    feeds = {"ids": np.array([[1, 2, 3], [9, 0, 4]], np.int32), "keep": np.arange(24).reshape(2, 3, 4) % 3 > 0}
    return model(nodes, inputs, floats(y=(2, 3, 4)), weights), feeds


@odd
def string_input() -> Case:
    """Words looked up (ai.onnx.ml), embedded, and passed to a linear layer."""
    nodes = [
        node("LabelEncoder", ["words"], ["ids"], name="lookup", domain="ai.onnx.ml",
             keys_strings=["cat", "dog"], values_int64s=[1, 2], default_int64=0),
        node("Gather", ["table", "ids"], ["e"], name="embedding"),
        node("MatMul", ["e", "w"], ["y"], name="fc"),
    ]  # fmt: skip
    inputs = typed(TensorProto.STRING, words=(2, 3))
    feeds = {"words": np.array([["cat", "dog", "cow"], ["dog", "dog", "cat"]], object)}
    return model(nodes, inputs, floats(y=(2, 3, 4)), random(table=(3, 6), w=(6, 4)), domains={"ai.onnx.ml": 2}), feeds


@odd
def integers_only() -> Case:
    """No float anywhere: an integer MatMul is not a layer to quantise."""
    nodes = [node("MatMul", ["x", "w"], ["y"], name="counts")]
    whole = TensorProto.INT64
    weights = {"w": np.arange(8, dtype=np.int64).reshape(4, 2)}
    return model(nodes, typed(whole, x=(2, 4)), typed(whole, y=(2, 2)), weights), {
        "x": np.arange(8, dtype=np.int64).reshape(2, 4)
    }
