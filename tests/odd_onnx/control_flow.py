"""Layers inside subgraphs and recurrent operators."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .case import Case, floats, model, odd, random, typed

node = helper.make_node


def branch(name: str, weight: str) -> onnx.GraphProto:
    """Both branches call their node `matmul` and their output `branch_y`, as two scopes may."""
    tensor = numpy_helper.from_array(random(**{weight: (6, 4)})[weight], weight)
    return helper.make_graph(
        [node("MatMul", ["h", weight], ["branch_y"], name="matmul")], name, [], floats(branch_y=(2, 4)), [tensor]
    )


@odd
def matmul_inside_if() -> Case:
    """Each branch holds its own weight and reads `h` from the scope outside."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="outer"),
        node("If", ["flag"], ["y"], name="if", then_branch=branch("then", "w_then"), else_branch=branch("else", "w_else")),
    ]
    inputs = [*typed(TensorProto.BOOL, flag=()), *floats(x=(2, 6))]
    return model(nodes, inputs, floats(y=(2, 4)), random(w=(6, 6))), random(x=(2, 6)) | {"flag": np.array(True)}


@odd
def matmul_inside_loop() -> Case:
    """The loop's body uses a weight of the outer graph, which a layer outside uses too."""
    body = helper.make_graph(
        [node("MatMul", ["state", "w"], ["next"], name="step"), node("Identity", ["going"], ["go_on"], name="go_on")],
        "body",
        [*typed(TensorProto.INT64, turn=()), *typed(TensorProto.BOOL, going=()), *floats(state=(2, 6))],
        [*typed(TensorProto.BOOL, go_on=()), *floats(next=(2, 6))],
    )
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="outer"),
        node("Loop", ["turns", "", "h"], ["y"], name="loop", body=body),
    ]
    weights = random(w=(6, 6)) | {"turns": np.int64(3)}
    return model(nodes, floats(x=(2, 6)), floats(y=(2, 6)), weights), random(x=(2, 6))


@odd
def matmul_inside_scan() -> Case:
    weight = numpy_helper.from_array(random(w=(4, 4))["w"], "w")
    steps = [
        node("MatMul", ["state", "w"], ["turned"], name="step"),
        node("Add", ["turned", "slice"], ["next"], name="add"),
        node("Identity", ["next"], ["out"], name="out"),
    ]
    body = helper.make_graph(steps, "body", floats(state=(2, 4), slice=(2, 4)), floats(next=(2, 4), out=(2, 4)), [weight])
    nodes = [node("Scan", ["start", "x"], ["last", "y"], name="scan", body=body, num_scan_inputs=1)]
    inputs = floats(start=(2, 4), x=(5, 2, 4))
    return model(nodes, inputs, floats(last=(2, 4), y=(5, 2, 4))), random(start=(2, 4), x=(5, 2, 4))


@odd
def lstm() -> Case:
    """Bidirectional, with initial states left out and peepholes given."""
    weights = random(w=(2, 16, 3), r=(2, 16, 4), b=(2, 32), p=(2, 12), head=(8, 5))
    nodes = [
        node(
            "LSTM",
            ["x", "w", "r", "b", "", "", "", "p"],
            ["steps", "", "cell"],
            name="lstm",
            hidden_size=4,
            direction="bidirectional",
        ),
        node("Transpose", ["steps"], ["turned"], name="turn", perm=[2, 0, 1, 3]),
        node("Reshape", ["turned", "shape"], ["h"], name="merge"),
        node("MatMul", ["h", "head"], ["y"], name="fc"),
    ]
    weights["shape"] = np.array([2, 6, 8], np.int64)
    return model(nodes, floats(x=(6, 2, 3)), floats(y=(2, 6, 5), cell=(2, 2, 4)), weights), random(x=(6, 2, 3))


@odd
def gru() -> Case:
    """Only the last state is used; sequence lengths are given."""
    weights = random(w=(1, 12, 3), r=(1, 12, 4), b=(1, 24), head=(4, 5)) | {"axis": np.array([0], np.int64)}
    nodes = [
        node("GRU", ["x", "w", "r", "b", "lengths"], ["", "last"], name="gru", hidden_size=4, linear_before_reset=1),
        node("Squeeze", ["last", "axis"], ["h"], name="squeeze"),
        node("MatMul", ["h", "head"], ["y"], name="fc"),
    ]
    inputs = [*floats(x=(6, 2, 3)), *typed(TensorProto.INT32, lengths=(2,))]
    return model(nodes, inputs, floats(y=(2, 5)), weights), random(x=(6, 2, 3)) | {"lengths": np.array([6, 4], np.int32)}


@odd
def rnn() -> Case:
    weights = random(w=(1, 4, 3), r=(1, 4, 4))
    nodes = [node("RNN", ["x", "w", "r"], ["y"], name="rnn", hidden_size=4)]
    return model(nodes, floats(x=(6, 2, 3)), floats(y=(6, 1, 2, 4)), weights), random(x=(6, 2, 3))
