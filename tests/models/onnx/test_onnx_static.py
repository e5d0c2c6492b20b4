"""Activations on grids: what is computed, who reads what, and that ONNX Runtime makes integer kernels of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Dense, Grid, Quantized
from modelkit.core.model import EdgeGrid
from modelkit.models.onnx.model import OnnxModel
from tests.models.onnx.grids import OLD_RUNTIME, fused, outputs, outputs_of_file, quantized, relative_error

RNG = np.random.default_rng(1)
Nodes = list[onnx.NodeProto]


def normal(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / 4).astype(np.float32)


def model_of(
    nodes: Nodes, inputs: dict[str, list], outs: list[str], weights: dict[str, np.ndarray], element: int = 1
) -> OnnxModel:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, element, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, element, None) for name in outs],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return OnnxModel.from_proto(proto, Path("m.onnx"), Path("."))


def convolutions() -> OnnxModel:
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "b.weight"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["t"]),
        helper.make_node("GlobalAveragePool", ["t"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "c.weight", "c.bias"], ["y"], transB=1),
    ]
    weights = {
        "a.weight": normal(8, 3, 3, 3),
        "a.bias": normal(8),
        "b.weight": normal(8, 8, 3, 3),
        "c.weight": normal(5, 8),
        "c.bias": normal(5),
    }
    return model_of(nodes, {"x": ["batch", 3, 12, 12]}, ["y"], weights)


def test_convolutions_and_sums_become_integer_kernels(tmp_path: Path) -> None:
    model, feeds = convolutions(), {"x": normal(2, 3, 12, 12)}
    edges = ("x", "r", "b", "t", "p", "f")
    values = next(iter(model.observe([feeds], edges)))
    before = outputs(model, feeds)
    for name in "abc":
        model.set_parameter(name, "weight", quantized(model.parameter(name, "weight")))
    model.quantize_edges({edge: EdgeGrid(Grid.over(values[edge].min(), values[edge].max())) for edge in edges})
    model.save(tmp_path / "m.onnx")
    left = fused(tmp_path / "m.onnx", tmp_path)
    assert left["QLinearConv"] == 2 and left["QGemm"] == 1 and left["QLinearAdd"] == 1
    assert left["Conv"] == left["Gemm"] == left["Relu"] == 0
    assert relative_error(outputs_of_file(tmp_path / "m.onnx", feeds), before) < 0.05
    shown = OnnxModel.open(tmp_path / "m.onnx").graph
    assert [node.name for node in shown.layers()] == ["a", "b", "c"]
    assert sum(node.function == "quantize" for node in shown.nodes) == 2 * len(edges)


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("fixed", [False, True], ids=["any batch", "fixed sizes"])
@pytest.mark.parametrize("quantised_output", [False, True])
@pytest.mark.parametrize("bias_form", ["float", "int32"])
def test_a_product_with_a_bias_is_never_left_in_floats(
    rank: int, fixed: bool, quantised_output: bool, bias_form: str, tmp_path: Path
) -> None:
    """ONNX Runtime joins MatMul and Add to a Gemm, and computes that in integers only under conditions."""
    nodes = [helper.make_node("MatMul", ["x", "fc.weight"], ["h"]), helper.make_node("Add", ["h", "fc.bias"], ["y"])]
    sizes = [2, 3, 4][: rank - 1]
    model = model_of(
        nodes, {"x": [2 if fixed else "batch", *sizes[1:], 16]}, ["y"], {"fc.weight": normal(16, 6), "fc.bias": normal(6)}
    )
    feeds = {"x": normal(*sizes, 16)}
    form, grid = quantized(model.parameter("fc", "weight")), Grid.over(feeds["x"].min(), feeds["x"].max())
    exact = model.copy()
    exact.set_parameter("fc", "weight", Dense(form.decode()))
    expected = outputs(exact, {"x": grid.fake_quantize(feeds["x"])})
    model.set_parameter("fc", "weight", form)
    if bias_form == "int32":
        scale = np.float32(grid.scale) * form.scale
        codes = np.rint(model.parameter("fc", "bias") / scale[:, 0]).astype(np.int32)
        model.set_parameter("fc", "bias", Quantized(codes, scale, 32))
    model.quantize_edges({"x": EdgeGrid(grid, frozenset(["fc"]))})
    if quantised_output:
        model.quantize_edges({"y": EdgeGrid(Grid.over(expected[0].min(), expected[0].max()))})
    model.save(tmp_path / "m.onnx")
    left = fused(tmp_path / "m.onnx", tmp_path)
    assert left["MatMul"] == left["Gemm"] == left["FusedGemm"] == 0
    assert left["QGemm"] + left["MatMulIntegerToFloat"] + left["QLinearMatMul"] == 1
    assert relative_error(outputs_of_file(tmp_path / "m.onnx", feeds), expected) < (0.01 if quantised_output else 1e-3)


def test_few_bits_are_unpacked_into_integer_kernels(tmp_path: Path) -> None:
    model = model_of(
        [helper.make_node("Gemm", ["x", "fc.weight"], ["y"])], {"x": ["n", 64]}, ["y"], {"fc.weight": normal(64, 64)}
    )
    feeds = {"x": normal(3, 64)}
    model.set_parameter("fc", "weight", quantized(model.parameter("fc", "weight"), 4))
    model.quantize_edges({"x": EdgeGrid(Grid.over(-1, 1))})
    model.save(tmp_path / "m.onnx")
    assert fused(tmp_path / "m.onnx", tmp_path)["QGemm"] == 1
    assert relative_error(outputs_of_file(tmp_path / "m.onnx", feeds), outputs(model, feeds)) < 1e-6
    assert OnnxModel.open(tmp_path / "m.onnx").graph.by_name["fc"].parameters["weight"].form == "int4 per-channel"


def test_a_convolution_whose_output_is_on_no_grid_keeps_a_float_kernel(tmp_path: Path) -> None:
    model = convolutions()
    model.set_parameter("a", "weight", quantized(model.parameter("a", "weight")))
    model.quantize_edges({"x": EdgeGrid(Grid.over(-1, 1))})
    model.save(tmp_path / "m.onnx")
    left = fused(tmp_path / "m.onnx", tmp_path)
    assert left["QLinearConv"] == 0 and left["DequantizeLinear"] == 1, "only the input's own pair runs"


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_only_the_named_readers_read_the_grid(element: int, signed: bool) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(element)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Neg", ["r"], ["n"], name="neg"),
        helper.make_node("Neg", ["r"], ["m"], name="other"),
    ]
    model, feeds = model_of(nodes, {"x": ["n", 9]}, ["r", "n", "m"], {}, element), {"x": normal(3, 9).astype(dtype)}
    raw, grid = np.maximum(feeds["x"], 0), Grid.over(0, 0.5, signed)
    some = model.copy()
    some.quantize_edges({"r": EdgeGrid(grid, frozenset(["neg"]))})
    r, n, m = outputs(some, feeds)
    np.testing.assert_array_equal(r, raw)
    np.testing.assert_array_equal(m, -raw)
    halves = 1.01 * grid.scale if OLD_RUNTIME else 1e-3
    np.testing.assert_allclose(n, -grid.fake_quantize(raw), atol=1e-6 if dtype == np.float32 else halves)
    everyone = model.copy()
    everyone.quantize_edges({"r": EdgeGrid(grid), "x": EdgeGrid(Grid.over(-1, 1))})
    r, n, m = outputs(everyone, feeds)
    np.testing.assert_array_equal(n, m)
    np.testing.assert_array_equal(r, -n)
    assert everyone.graph.outputs == ("r", "n", "m")
    assert r.max() <= 0.51, "the output itself is the dequantised value"


def test_only_floats_go_on_grids() -> None:
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], {"x": ["n", 3]}, ["y"], {}, TensorProto.INT64)
    for edge in ("y", "nowhere"):
        with pytest.raises(ModelkitError, match="no float tensor"):
            model.quantize_edges({edge: EdgeGrid(Grid.over(-1, 1))})


def test_removed_norms_leave_no_trace() -> None:
    norm = {name: np.abs(normal(8)) + 0.1 for name in ("scale", "shift", "mean", "variance")}
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["c"]),
        helper.make_node("BatchNormalization", ["c", *norm], ["y"], name="bn"),
    ]
    model = model_of(nodes, {"x": ["n", 3, 5, 5]}, ["y"], {"conv.weight": normal(8, 3, 3, 3), **norm})
    feeds = {"x": normal(2, 3, 5, 5)}
    before = outputs(model, feeds)
    gain = norm["scale"] / np.sqrt(norm["variance"] + 1e-5)
    model.set_parameter("conv", "weight", Dense(model.parameter("conv", "weight") * gain[:, None, None, None]))
    model.set_parameter("conv", "bias", Dense(norm["shift"] - norm["mean"] * gain))
    model.remove("bn")
    assert [node.name for node in model.graph.nodes] == ["conv"]
    assert model.graph.by_name["conv"].outputs == ("y",)
    assert set(model._written().tensors) == {"conv.weight", "conv.bias"}
    assert relative_error(outputs(model, feeds), before) < 1e-5
