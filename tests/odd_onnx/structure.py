"""Graphs of an unusual shape: inputs, outputs, names, functions, domains."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from .case import CANNOT_RUN, CHECKER_REFUSES, Case, flagged, floats, model, odd, random, typed

node = helper.make_node


@odd
def unused_input_and_passed_through() -> Case:
    """`unused` feeds nothing, `given` is itself an output, `idle` is a node nobody reads; two real outputs, one used inside."""
    nodes = [
        node("MatMul", ["x", "w1"], ["h"], name="fc1"),
        node("Sigmoid", ["h"], ["idle"], name="idle"),
        node("Add", ["h", "given"], ["s"], name="add"),
        node("MatMul", ["s", "w2"], ["y"], name="fc2"),
    ]
    inputs = floats(x=(2, 6), unused=(3,), given=(2, 4))
    outputs = floats(h=(2, 4), given=(2, 4), y=(2, 5))
    return model(nodes, inputs, outputs, random(w1=(6, 4), w2=(4, 5))), random(x=(2, 6), unused=(3,), given=(2, 4))


@odd
def no_layers() -> Case:
    """Nothing to compress."""
    nodes = [node("Relu", ["x"], ["r"], name="relu"), node("Softmax", ["r"], ["y"], name="softmax")]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 6))), random(x=(2, 6))


@odd
def dynamic_dimensions() -> Case:
    """A named dynamic dimension, and an unnamed one; the output names the first differently."""
    nodes = [node("MatMul", ["x", "w"], ["y"], name="fc"), node("Relu", ["y"], ["z"], name="relu")]
    return model(nodes, floats(x=("batch", None, 6)), floats(z=("N", None, 4)), random(w=(6, 4))), random(x=(3, 5, 6))


@flagged(CHECKER_REFUSES, "the checker wants a shape on every input and output")
def unknown_rank_input() -> Case:
    """The input states neither shape nor rank, and a MatMul takes any."""
    nodes = [node("MatMul", ["x", "w"], ["y"], name="fc")]
    unranked = TensorProto.FLOAT
    return model(nodes, typed(unranked, x=None), typed(unranked, y=None), random(w=(6, 4))), random(x=(3, 5, 6))


@odd
def scalar_input() -> Case:
    """A temperature of rank 0."""
    nodes = [node("MatMul", ["x", "w"], ["h"], name="fc"), node("Div", ["h", "temperature"], ["y"], name="divide")]
    inputs = floats(x=(2, 6), temperature=())
    return model(nodes, inputs, floats(y=(2, 4)), random(w=(6, 4))), random(x=(2, 6)) | {"temperature": np.array(0.7, np.float32)}


@odd
def nodes_without_names() -> Case:
    nodes = [node("MatMul", ["x", "w1"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "w2"], ["y"])]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 5)), random(w1=(6, 4), w2=(4, 5))), random(x=(2, 6))


@odd
def names_that_look_alike() -> Case:
    """Nodes, tensors and weights whose names differ by case, suffix or kind only; some look like names a tool would invent."""
    nodes = [
        node("MatMul", ["x", "fc_weight"], ["fc"], name="fc"),
        node("MatMul", ["fc", "FC_weight"], ["FC"], name="FC"),
        node("MatMul", ["FC", "fc_1_weight"], ["fc_1"], name="fc_1"),
        node("MatMul", ["fc_1", "fc_quantized"], ["fc_scale"], name="fc_weight"),
        node("MatMul", ["fc_scale", "fc_weight_scale"], ["fc_zero_point"], name="fc_QuantizeLinear"),
    ]
    names = ("fc_weight", "FC_weight", "fc_1_weight", "fc_quantized", "fc_weight_scale")
    weights = random(**{name: (6, 6) for name in names})
    return model(nodes, floats(x=(2, 6)), floats(fc_zero_point=(2, 6)), weights), random(x=(2, 6))


@odd
def names_with_slashes() -> Case:
    """Paths as exporters write them, a colon, a space, a letter beyond ASCII, and a glob's own characters."""
    names = ["/model/layers.0/MatMul", "model/dense/MatMul:0", "StatefulPartitionedCall/é 1", "block[0].fc*"]
    tensors = ["x:0", *(f"{name}_output_0" for name in names)]
    shapes = {f"{name}.weight": (6, 6) for name in names}
    nodes = [
        node("MatMul", [before, weight], [after], name=name)
        for name, weight, before, after in zip(names, shapes, tensors, tensors[1:], strict=False)
    ]
    built = model(nodes, floats(**{"x:0": (2, 6)}), floats(**{tensors[-1]: (2, 6)}), random(**shapes))
    return built, random(**{"x:0": (2, 6)})


@odd
def local_function() -> Case:
    """A function of the model's own, called with different weights from the graph and from another function."""
    dense = helper.make_function(
        "local", "Dense", ["x", "w", "b"], ["y"],
        [node("MatMul", ["x", "w"], ["h"], name="matmul"), node("Add", ["h", "b"], ["y"], name="add")],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    activated = helper.make_function(
        "local", "DenseRelu", ["x", "w", "b"], ["y"],
        [node("Dense", ["x", "w", "b"], ["h"], name="dense", domain="local"), node("Relu", ["h"], ["y"], name="relu")],
        [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
    )  # fmt: skip
    nodes = [
        node("DenseRelu", ["x", "w1", "b1"], ["h"], name="layer1", domain="local"),
        node("Dense", ["h", "w2", "b2"], ["y"], name="layer2", domain="local"),
    ]
    weights = random(w1=(6, 4), b1=(4,), w2=(4, 5), b2=(5,))
    built = model(nodes, floats(x=(2, 6)), floats(y=(2, 5)), weights, domains={"local": 1}, functions=[dense, activated])
    return built, random(x=(2, 6))


@odd
def custom_domain() -> Case:
    """onnxruntime's own operators, as its offline optimiser writes them: FusedConv, Gelu, FusedMatMul."""
    weights = random(k=(4, 3, 3, 3), b=(4,), w=(5, 64))
    nodes = [
        node("FusedConv", ["image", "k", "b"], ["c"], name="conv", domain="com.microsoft", activation="Relu"),
        node("Gelu", ["c"], ["g"], name="gelu", domain="com.microsoft"),
        node("Flatten", ["g"], ["f"], name="flatten"),
        node("FusedMatMul", ["f", "w"], ["y"], name="fc", domain="com.microsoft", transB=1, alpha=0.5),
    ]
    built = model(nodes, floats(image=(2, 3, 6, 6)), floats(y=(2, 5)), weights, domains={"com.microsoft": 1})
    return built, random(image=(2, 3, 6, 6))


@odd
def empty_optional_inputs() -> Case:
    """Inputs left out by "": Resize without region, and with nothing after it Conv without bias, Gemm without C."""
    weights = random(k=(4, 3, 3, 3), w=(256, 5)) | {"scales": np.array([1, 1, 2, 2], np.float32)}
    nodes = [
        node("Conv", ["image", "k", ""], ["c"], name="conv"),
        node("Resize", ["c", "", "scales"], ["r"], name="resize", mode="nearest"),
        node("Flatten", ["r"], ["f"], name="flatten"),
        node("Gemm", ["f", "w", ""], ["y"], name="fc"),
    ]
    return model(nodes, floats(image=(2, 3, 6, 6)), floats(y=(2, 5)), weights), random(image=(2, 3, 6, 6))


@flagged(CANNOT_RUN, "onnxruntime 1.32's extended optimisation crashes the process; without the empty last input it runs")
def layer_norm_with_empty_bias() -> Case:
    nodes = [node("LayerNormalization", ["x", "scale", ""], ["h"], name="norm"), node("MatMul", ["h", "w"], ["y"], name="fc")]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 4)), random(scale=(6,), w=(6, 4))), random(x=(2, 6))


@odd
def sequence_inside() -> Case:
    """A value that is a sequence of tensors, not a tensor."""
    weights = random(w1=(6, 4), w2=(4, 5)) | {"parts": np.array([1, 1], np.int64)}
    nodes = [
        node("MatMul", ["x", "w1"], ["h"], name="fc1"),
        node("SplitToSequence", ["h", "parts"], ["pieces"], name="split", axis=0),
        node("ConcatFromSequence", ["pieces"], ["joined"], name="join", axis=0),
        node("MatMul", ["joined", "w2"], ["y"], name="fc2"),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 5)), weights), random(x=(2, 6))


@odd
def diamond() -> Case:
    """One activation read by three layers, whose outputs meet in Concat and Add."""
    nodes = [
        node("Relu", ["x"], ["r"], name="relu"),
        node("MatMul", ["r", "q"], ["a"], name="query"),
        node("MatMul", ["r", "k"], ["b"], name="key"),
        node("Gemm", ["r", "v"], ["c"], name="value"),
        node("Add", ["a", "b"], ["s"], name="add"),
        node("Concat", ["s", "c"], ["y"], name="concat", axis=1),
    ]
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 8)), random(q=(6, 4), k=(6, 4), v=(6, 4))), random(x=(2, 6))


@odd
def metadata_and_value_info() -> Case:
    """Properties, documentation and a producer that must survive; stale value_info naming a tensor that no longer exists."""
    built = model([node("MatMul", ["x", "w"], ["y"], name="fc")], floats(x=(2, 6)), floats(y=(2, 4)), random(w=(6, 4)))
    helper.set_model_props(built, {"classes": "cat,dog,cow,hen", "mean": "0.5"})
    built.producer_name, built.doc_string, built.graph.doc_string = "somebody", "a model", "a graph"
    built.graph.value_info.extend(floats(gone=(2, 4)))
    return built, random(x=(2, 6))
