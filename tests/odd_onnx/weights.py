"""Ways in which a constant reaches the layer it is the weight of."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .case import CHECKER_REFUSES, Case, flagged, floats, model, odd, random

node = helper.make_node


@odd
def weight_through_transpose() -> Case:
    """A linear layer's (out, in) weight, turned at run time."""
    nodes = [node("Transpose", ["w"], ["wt"], name="turn", perm=[1, 0]), node("MatMul", ["x", "wt"], ["y"], name="fc")]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), random(w=(4, 6))), random(x=(2, 6))


@odd
def weight_through_cast() -> Case:
    """Stored as float16, used as float32."""
    nodes = [node("Cast", ["w"], ["wf"], name="widen", to=TensorProto.FLOAT), node("MatMul", ["x", "wf"], ["y"], name="fc")]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), {"w": random(w=(6, 4))["w"].astype(np.float16)}), random(x=(2, 6))


@odd
def weight_through_reshape() -> Case:
    """Stored flat."""
    weights = random(w=(24,)) | {"shape": np.array([6, 4], np.int64)}
    nodes = [node("Reshape", ["w", "shape"], ["wm"], name="fold"), node("MatMul", ["x", "wm"], ["y"], name="fc")]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), weights), random(x=(2, 6))


@odd
def weight_through_a_chain() -> Case:
    """Flat float16, cast, reshaped, turned and passed through Identity on its way to Gemm; the convolution's is unsqueezed."""
    flat = random(w=(24,))["w"].astype(np.float16)
    weights = {"w": flat, "shape": np.array([4, 6], np.int64), "axis": np.array([2], np.int64)} | random(k=(6, 3, 1))
    nodes = [
        node("Unsqueeze", ["k", "axis"], ["kernel"], name="unsqueeze"),
        node("Conv", ["image", "kernel"], ["c"], name="conv"),
        node("GlobalAveragePool", ["c"], ["pooled"], name="pool"),
        node("Flatten", ["pooled"], ["flat"], name="flatten"),
        node("Cast", ["w"], ["w1"], name="cast", to=TensorProto.FLOAT),
        node("Reshape", ["w1", "shape"], ["w2"], name="reshape"),
        node("Transpose", ["w2"], ["w3"], name="transpose", perm=[1, 0]),
        node("Identity", ["w3"], ["w4"], name="identity"),
        node("Gemm", ["flat", "w4"], ["y"], name="fc"),
    ]
    return model(nodes, floats(image=(2, 3, 4, 4)), floats(y=(2, 4)), weights), random(image=(2, 3, 4, 4))


@odd
def weight_as_constant_node() -> Case:
    """Weights in Constant nodes; no initializer at all. The bias is an attribute of floats, not a tensor."""
    weight = numpy_helper.from_array(random(w=(6, 4))["w"], "value")
    nodes = [
        node("Constant", [], ["w"], name="constant_w", value=weight),
        node("Constant", [], ["b"], name="constant_b", value_floats=[0.1, -0.2, 0.3, 0.0]),
        node("Gemm", ["x", "w", "b"], ["y"], name="fc"),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4))), random(x=(2, 6))


@odd
def weight_norm() -> Case:
    """A weight computed of two constants: g * v / |v|."""
    nodes = [
        node("ReduceL2", ["v"], ["length"], name="length", axes=[1], keepdims=1),
        node("Div", ["v", "length"], ["direction"], name="direction"),
        node("Mul", ["direction", "g"], ["w"], name="weight"),
        node("Gemm", ["x", "w"], ["y"], name="fc", transB=1),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), random(v=(4, 6), g=(4, 1))), random(x=(2, 6))


@odd
def gemm_all_attributes() -> Case:
    """y = 0.5 * xT wT + 2 c, with a row c of (1, out); then a Gemm with a scalar c, and one with none."""
    weights = random(w=(4, 6), c=(1, 4), w2=(4, 3), w3=(5, 3)) | {"c2": np.float32(0.25)}
    nodes = [
        node("Gemm", ["x", "w", "c"], ["y"], name="turned", transA=1, transB=1, alpha=0.5, beta=2.0),
        node("Gemm", ["y", "w2", "c2"], ["y2"], name="scalar_bias", beta=0.5),
        node("Gemm", ["y2", "w3"], ["y3"], name="no_bias", transB=1, alpha=3.0),
    ]
    return model(nodes, floats(x=(6, 2)), floats(y3=(2, 5)), weights), random(x=(6, 2))


@odd
def weight_on_the_left() -> Case:
    """MatMul(w, x) and Gemm(w, x): the weight is the first operand and the data is in columns."""
    nodes = [node("MatMul", ["w", "x"], ["h"], name="left"), node("Gemm", ["w2", "h"], ["y"], name="left_gemm", transA=1)]
    return model(nodes, floats(x=(6, 2)), floats(y=(3, 2)), random(w=(4, 6), w2=(4, 3))), random(x=(6, 2))


@odd
def batched_weight() -> Case:
    """One matrix per expert (experts, in, out), and a weight that is a vector."""
    nodes = [node("MatMul", ["x", "w"], ["h"], name="experts"), node("MatMul", ["h", "v"], ["y"], name="vector")]
    return model(nodes, floats(x=(3, 2, 6)), floats(y=(3, 2)), random(w=(3, 6, 4), v=(4,))), random(x=(3, 2, 6))


@odd
def einsum_weight() -> Case:
    """Heads projected by Einsum."""
    nodes = [node("Einsum", ["x", "w"], ["y"], name="heads", equation="btd,dhk->bhtk")]
    return model(nodes, floats(x=(2, 3, 6)), floats(y=(2, 2, 3, 4)), random(w=(6, 2, 4))), random(x=(2, 3, 6))


@odd
def weight_shared_by_two_matmuls() -> Case:
    """One square initializer, used twice."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="first"),
        node("Relu", ["h"], ["r"], name="relu"),
        node("MatMul", ["r", "w"], ["y"], name="second"),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 6)), random(w=(6, 6))), random(x=(2, 6))


@odd
def weight_shared_in_two_orientations() -> Case:
    """One initializer is the first layer's (in, out) and the second's (out, in)."""
    nodes = [node("Gemm", ["x", "w"], ["h"], name="encode"), node("Gemm", ["h", "w"], ["y"], name="decode", transB=1)]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 6)), random(w=(6, 4))), random(x=(2, 6))


@odd
def tied_embedding() -> Case:
    """The embedding table, turned, is also the output layer."""
    nodes = [
        node("Gather", ["table", "ids"], ["h"], name="embedding"),
        node("Transpose", ["table"], ["tableT"], name="turn", perm=[1, 0]),
        node("MatMul", ["h", "tableT"], ["logits"], name="head"),
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 5])]
    return model(nodes, inputs, floats(logits=("batch", 5, 12)), random(table=(12, 6))), {"ids": np.arange(10).reshape(2, 5)}


@odd
def weight_is_an_output() -> Case:
    """An initializer that a layer uses and that is a graph output too."""
    nodes = [node("MatMul", ["x", "w"], ["y"], name="fc")]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4), w=(6, 4)), random(w=(6, 4))), random(x=(2, 6))


@odd
def weight_also_used_as_data() -> Case:
    """The output adds a penalty on the weight, so the weight's value matters beyond its layer."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="fc"),
        node("ReduceMean", ["w"], ["mean"], name="mean", keepdims=0),
        node("Add", ["h", "mean"], ["y"], name="add"),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), random(w=(6, 4))), random(x=(2, 6))


@odd
def weight_is_an_input() -> Case:
    """MatMul and Conv whose second operand the caller gives: not layers with a weight."""
    nodes = [
        node("Conv", ["image", "k"], ["c"], name="conv"),
        node("Flatten", ["c"], ["f"], name="flatten"),
        node("MatMul", ["f", "w"], ["y"], name="product"),
    ]
    shapes = {"image": (2, 3, 4, 4), "k": (2, 3, 3, 3), "w": (8, 4)}
    return model(nodes, floats(**shapes), floats(y=(2, 4))), random(**shapes)


@odd
def weights_in_typed_fields() -> Case:
    """Values in float_data and int32_data (float16 as bits), where most exporters write raw_data."""
    half = random(v=(4, 3))["v"].astype(np.float16)
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [6, 4], random(w=(24,))["w"].tolist()),
        helper.make_tensor("v", TensorProto.FLOAT16, [4, 3], half.flatten().tolist()),
    ]
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="fc1"),
        node("Cast", ["v"], ["vf"], name="widen", to=TensorProto.FLOAT),
        node("MatMul", ["h", "vf"], ["y"], name="fc2"),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 3)), weights), random(x=(2, 6))


@odd
def dead_and_constant_channels() -> Case:
    """Output channels of zeros, of one repeated value and of tiny values: no scale may become 0, infinite or subnormal."""
    weight = random(w=(6, 4))["w"]
    weight[:, 0], weight[:, 1], weight[:, 2] = 0, 0.5, 1e-38
    return model([node("MatMul", ["x", "w"], ["y"], name="fc")], floats(x=(2, 6)), floats(y=(2, 4)), {"w": weight}), random(
        x=(2, 6)
    )


@flagged(CHECKER_REFUSES, "the checker's shape inference does not see sparse initializers")
def sparse_initializer() -> Case:
    """A weight of which only the non-zero values are stored."""
    values = helper.make_tensor("w", TensorProto.FLOAT, [3], [0.5, -1.0, 2.0])
    places = helper.make_tensor("w_places", TensorProto.INT64, [3], [1, 10, 20])
    built = model([node("MatMul", ["x", "w"], ["y"], name="fc")], floats(x=(2, 6)), floats(y=(2, 4)))
    built.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [6, 4]))
    return built, random(x=(2, 6))


@odd
def external_data_in_two_files() -> Case:
    """Weights in two files of a subfolder, at offsets, the bias inside the model."""
    weights = random(w1=(6, 8), w2=(8, 8), w3=(8, 4), b=(4,))
    built = model(
        [
            node("MatMul", ["x", "w1"], ["h1"], name="fc1"),
            node("MatMul", ["h1", "w2"], ["h2"], name="fc2"),
            node("Gemm", ["h2", "w3", "b"], ["y"], name="fc3"),
        ],
        floats(x=(2, 6)), floats(y=(2, 4)), weights,
    )  # fmt: skip
    for name, location in {"w1": "weights/first.bin", "w2": "weights/first.bin", "w3": "weights/second.bin"}.items():
        tensor = next(t for t in built.graph.initializer if t.name == name)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    return built, random(x=(2, 6))
