"""Weight forms in ONNX files: what runs is the decoded weight, what is stored has its bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Dense, DynamicGrid, Quantized
from modelkit.models.onnx.model import OnnxModel
from modelkit.models.onnx.packing import pack
from tests.models.onnx.grids import OLD_RUNTIME, fused, outputs, outputs_of_file, quantized, relative_error

RNG = np.random.default_rng(0)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return (RNG.standard_normal(shape) / 4).astype(dtype)


def one_layer(kind: str, dtype: str = "float32", length: int | str = "length") -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one layer, and inputs for it."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    image, tokens = normal(2, 4, 9, 9, dtype=dtype), normal(2, 7, 20, dtype=dtype)
    rows = normal(3, 20, dtype=dtype)
    conv, gemm, matmul = ("Conv", ["x", "fc.weight"], {}), ("Gemm", ["x", "fc.weight"], {}), ("MatMul", ["x", "fc.weight"], {})
    add, wide = ("Add", ["h", "b"], {}), {"fc.weight": (20, 6), "b": (6,)}
    cases: dict[str, tuple[np.ndarray, list, dict]] = {
        "conv": (image, [("Conv", ["x", "fc.weight", "b"], {})], {"fc.weight": (6, 4, 3, 3), "b": (6,)}),
        "grouped conv": (image, [("Conv", ["x", "fc.weight"], {"group": 2})], {"fc.weight": (6, 2, 3, 3)}),
        "conv with an Add": (image, [conv, add], {"fc.weight": (6, 4, 3, 3), "b": (6, 1, 1)}),
        "transposed conv": (image, [("ConvTranspose", ["x", "fc.weight"], {})], {"fc.weight": (4, 5, 3, 3)}),
        "gemm": (rows, [("Gemm", ["x", "fc.weight", "b"], {"transB": 1})], {"fc.weight": (6, 20), "b": (6,)}),
        "untransposed gemm": (rows, [gemm], {"fc.weight": (20, 6)}),
        "matmul": (tokens, [matmul], {"fc.weight": (20, 6)}),
        "matmul with an Add": (tokens, [matmul, ("Add", ["b", "h"], {})], wide),
        "flat matmul with an Add": (rows, [matmul, add], {"fc.weight": (20, 6), "b": (1, 6)}),
        "embedding": (RNG.integers(0, 11, (2, 5)), [("Gather", ["fc.weight", "x"], {})], {"fc.weight": (11, 20)}),
    }
    x, operators, weights = cases[kind]
    nodes = [
        helper.make_node(op, inputs, ["y" if index == len(operators) - 1 else "h"], **given)
        for index, (op, inputs, given) in enumerate(operators)
    ]
    dims = ["batch", *x.shape[1:]]
    if x.ndim == 3:
        dims[1] = length
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("x", TensorProto.INT64 if x.dtype == np.int64 else element, dims)],
        [helper.make_tensor_value_info("y", element, None)],
        [onnx.numpy_helper.from_array(normal(*shape, dtype=dtype), name) for name, shape in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), {"x": x}


KINDS = (
    "conv", "grouped conv", "conv with an Add", "transposed conv", "gemm", "untransposed gemm", "matmul", "matmul with an Add",
    "flat matmul with an Add", "embedding",
)  # fmt: skip
LINEAR = ("gemm", "untransposed gemm", "matmul", "matmul with an Add", "flat matmul with an Add")


def opened(kind: str, dtype: str = "float32", length: int | str = "length") -> tuple[OnnxModel, dict[str, np.ndarray]]:
    proto, feeds = one_layer(kind, dtype, length)
    return OnnxModel.from_proto(proto, Path("model.onnx"), Path(".")), feeds


@pytest.mark.filterwarnings("ignore:x. the file leaves")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "options",
    [
        {"bits": 8},
        {"bits": 8, "asymmetric": True},
        {"bits": 8, "group_size": 8},
        {"bits": 4, "group_size": 8, "asymmetric": True},
        {"bits": 4},
        {"bits": 3, "group_size": 7},
        {"bits": 3, "asymmetric": True},
        {"bits": 2, "group_size": 16},
        {"bits": 5},
        {"bits": 1},
    ],
    ids=lambda options: " ".join(f"{key}={value}" for key, value in options.items()),
)
@pytest.mark.parametrize("kind", KINDS)
def test_weight_only_computes_with_the_decoded_weight(kind: str, options: dict, dtype: str, tmp_path: Path) -> None:
    model, feeds = opened(kind, dtype)
    weight = model.parameter("fc", "weight")
    axis = 1 if kind == "transposed conv" else 0
    form = quantized(weight, **options, axis=axis)
    expected = model.copy()
    expected.set_parameter("fc", "weight", Dense(form.decode()))
    model.set_parameter("fc", "weight", form)
    assert str(form) == model.graph.by_name["fc"].parameters["weight"].form
    model.save(tmp_path / "m.onnx")
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    for actual in (outputs(model, feeds), outputs_of_file(tmp_path / "m.onnx", feeds)):
        assert relative_error(actual, outputs(expected, feeds)) < tolerance
    again = OnnxModel.open(tmp_path / "m.onnx")
    parameter = again.graph.by_name["fc"].parameters["weight"]
    assert (parameter.form, parameter.shape) == (str(form), form.shape)
    np.testing.assert_allclose(again.parameter("fc", "weight"), form.decode(), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:x. the file leaves")
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_weights_are_stored_in_their_bits(bits: int, tmp_path: Path) -> None:
    weight = normal(256, 512).T
    node = helper.make_node("MatMul", ["x", "fc.weight"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 512), ("y", 256))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [onnx.numpy_helper.from_array(weight, "fc.weight")])
    model = OnnxModel.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), Path("m.onnx"), Path("."))
    form = quantized(model.parameter("fc", "weight"), bits, group_size=128)
    model.set_parameter("fc", "weight", form)
    model.save(tmp_path / "m.onnx")
    assert form.nbytes < (tmp_path / "m.onnx").stat().st_size < form.nbytes + 3000


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_packed_codes_come_back_by_two_shifts(bits: int, rows: int, columns: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns)).astype(np.uint8)
    total = np.zeros((rows, columns), int)
    planes = pack(codes, bits)
    for plane in planes:
        fields = (plane.packed << plane.left).astype(np.uint8) >> plane.right
        total += fields.reshape(rows, plane.columns)[:, :columns].astype(int) * plane.weight
    np.testing.assert_array_equal(total, codes)
    assert sum(plane.bits for plane in planes) == bits


@pytest.mark.filterwarnings("ignore:x. the file leaves")
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", LINEAR)
def test_dynamic_linear_is_fused_and_close(kind: str, bits: int, asymmetric: bool, tmp_path: Path) -> None:
    model, feeds = opened(kind)
    form = quantized(model.parameter("fc", "weight"), bits, asymmetric=asymmetric)
    expected = model.copy()
    expected.set_parameter("fc", "weight", Dense(form.decode()))
    model.set_parameter("fc", "weight", form, DynamicGrid())
    model.save(tmp_path / "m.onnx")
    assert relative_error(outputs_of_file(tmp_path / "m.onnx", feeds), outputs(expected, feeds)) < 0.03
    assert fused(tmp_path / "m.onnx", tmp_path) == {"DynamicQuantizeMatMul": 1}
    again = OnnxModel.open(tmp_path / "m.onnx")
    layer = again.graph.by_name["fc"]
    assert (layer.kind, layer.inputs, layer.outputs, layer.skip) == ("linear", ("x",), ("y",), "already quantised")
    np.testing.assert_allclose(again.parameter("fc", "weight"), form.decode(), atol=1e-7)
    if "Add" in kind or kind == "gemm":
        np.testing.assert_array_equal(again.parameter("fc", "bias"), model.parameter("fc", "bias"))


@pytest.mark.filterwarnings("ignore:x. the file leaves")
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_dynamic_with_groups_is_one_blocked_product(bits: int, tmp_path: Path) -> None:
    model, feeds = opened("matmul with an Add")
    form = quantized(model.parameter("fc", "weight"), bits, group_size=16, asymmetric=True)
    if bits == 2 and OLD_RUNTIME:
        assert "4, 8 bits here" in (model.can_lower("fc", form, DynamicGrid()) or "")
        return
    expected = model.copy()
    expected.set_parameter("fc", "weight", Dense(form.decode()))
    model.set_parameter("fc", "weight", form, DynamicGrid())
    model.save(tmp_path / "m.onnx")
    assert relative_error(outputs_of_file(tmp_path / "m.onnx", feeds), outputs(expected, feeds)) < 0.03
    assert "MatMulNBits" in fused(tmp_path / "m.onnx", tmp_path)
    np.testing.assert_allclose(OnnxModel.open(tmp_path / "m.onnx").parameter("fc", "weight"), form.decode(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:x. the file leaves")
def test_layers_on_one_edge_share_its_dynamic_grid() -> None:
    nodes = [helper.make_node("MatMul", ["x", f"{name}.weight"], [name]) for name in "qkv"]
    weights = [onnx.numpy_helper.from_array(normal(8, 8), f"{name}.weight") for name in "qkv"]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in "xqkv"]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], weights), opset_imports=[helper.make_opsetid("", 13)]
    )
    model = OnnxModel.from_proto(proto, Path("m.onnx"), Path("."))
    for name in "qkv":
        model.set_parameter(name, "weight", quantized(model.parameter(name, "weight")), DynamicGrid())
    assert sum(node.op_type == "DynamicQuantizeLinear" for node in model._written().nodes) == 1


def test_what_cannot_be_lowered_is_said() -> None:
    model, _ = opened("conv")
    weight = model.parameter("fc", "weight")
    assert "linear" in (model.can_lower("fc", quantized(weight), DynamicGrid()) or "")
    wide = Quantized(np.zeros(weight.shape, np.int8), np.ones((6, 1), np.float32), 16)
    assert "16 bits" in (model.can_lower("fc", wide) or "")
    with pytest.raises(ModelkitError, match="fc can't take the form int16"):
        model.set_parameter("fc", "weight", wide)
    with pytest.raises(ModelkitError, match="shape"):
        model.set_parameter("fc", "weight", Dense(weight[:3]))
    with pytest.raises(ModelkitError, match="no node 'nowhere'"):
        model.set_parameter("nowhere", "weight", Dense(weight))


def test_copies_are_independent() -> None:
    model, feeds = opened("gemm")
    before = outputs(model, feeds)
    twin = model.copy()
    twin.set_parameter("fc", "weight", Dense(np.zeros((6, 20), np.float32)))
    twin.provenance.history.append({"pass": "test"})
    assert relative_error(outputs(model, feeds), before) == 0
    assert model.provenance.history == []


def test_a_new_bias_is_added() -> None:
    for kind in ("grouped conv", "untransposed gemm", "matmul"):
        model, feeds = opened(kind, length=7)
        before = outputs(model, feeds)[0]
        bias = np.arange(6, dtype=np.float32)
        model.set_parameter("fc", "bias", Dense(bias))
        shape = (6, 1, 1) if "conv" in kind else (6,)
        np.testing.assert_allclose(outputs(model, feeds)[0], before + bias.reshape(shape), atol=1e-5)
        np.testing.assert_array_equal(model.graph.by_name["fc"].parameters["bias"].shape, (6,))


def test_tied_weights_stay_one_tensor_under_one_form() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="a"), helper.make_node("MatMul", ["h", "w"], ["y"], name="b")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [onnx.numpy_helper.from_array(normal(8, 8), "w")])
    model = OnnxModel.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), Path("m.onnx"), Path("."))
    form = quantized(model.parameter("a", "weight"))
    model.set_parameter("a", "weight", form)
    assert [name for name in model._written().tensors if "codes" in name or name == "w"] == ["w", "a.weight.codes"]
    model.set_parameter("b", "weight", form)
    assert [name for name in model._written().tensors if "codes" in name or name == "w"] == ["a.weight.codes"]
