"""Files that other quantisers wrote with products of integers and scales beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from modelkit.analysis.macs import total_macs
from modelkit.models.crossing import to_torch
from modelkit.models.onnx.model import OnnxModel

CONV = 8 * 3 * 9 * 6 * 6
HEAD = 4 * 8 * 36


def floats() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """conv (with a bias) → relu → flatten → gemm"""
    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        g (float[N, 3, 8, 8] x) => (float[N, 4] y) {
            c = Conv(x, w, b)
            r = Relu(c)
            f = Flatten(r)
            y = MatMul(f, v)
        }""")
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "v": (288, 4)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return proto, arrays


@pytest.mark.parametrize("signed", [False, True])
def test_dynamic_convolutions_are_layers(tmp_path: Path, signed: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    proto, arrays = floats()
    onnx.save(proto, tmp_path / "f.onnx")
    quantize_dynamic(tmp_path / "f.onnx", tmp_path / "m.onnx", weight_type=QuantType.QInt8 if signed else QuantType.QUInt8)
    model = OnnxModel.open(tmp_path / "m.onnx")
    conv, head = model.graph.layers()
    assert (conv.kind, head.kind) == ("conv", "linear") and conv.skip == head.skip == "already quantised"
    assert conv.inputs == ("x",) and conv.parameters["bias"].shape == (8,)
    assert total_macs(model.graph) == CONV + HEAD
    for layer, dense in ((conv, arrays["w"]), (head, arrays["v"].T)):
        found = model.parameter(layer.name, "weight")
        assert found is not None and found.shape == dense.shape
        assert np.abs(found - dense).max() < 0.02 * np.abs(dense).max()
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    found, expected = (next(one.observe([{"x": x}], []))[one.graph.outputs[0]] for one in (to_torch(model), model))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_products_of_integers_in_other_company() -> None:
    """As quantisers of 2019 wrote them, the bias among the integers."""
    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        g (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) {
            q, scale, zero = DynamicQuantizeLinear(x)
            i = ConvInteger<pads = [0, 0, 0, 0], strides = [1, 1]>(q, w, zero, wz)
            a = Add(i, b)
            f = Cast<to = 1>(a)
            y = Mul(f, scale)
        }""")
    rng = np.random.default_rng(0)
    proto.graph.initializer.extend(
        [
            numpy_helper.from_array(rng.integers(0, 255, (8, 3, 3, 3)).astype(np.uint8), "w"),
            numpy_helper.from_array(np.uint8(128), "wz"),
            numpy_helper.from_array(rng.integers(-99, 99, (1, 8, 1, 1)).astype(np.int32), "b"),
        ]
    )
    graph = OnnxModel.from_proto(proto, Path("m.onnx"), Path()).graph
    (conv,) = graph.layers()
    assert conv.kind == "conv" and conv.skip == "already quantised" and conv.parameters["weight"].shape == (8, 3, 3, 3)
    assert total_macs(graph) == CONV


def test_convolution_whose_weight_is_computed() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x, float[8, 3, 3, 3] w) => (float[1, 8, 8, 8] y) {
            y = Conv<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, w)
        }""")
    model = OnnxModel.from_proto(proto, Path("m.onnx"), Path())
    (conv,) = model.graph.layers()
    assert conv.attributes["padding"] == ((1, 1), (1, 1)) and conv.skip == "its weight is computed at run time"
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((1, 3, 8, 8), np.float32), "w": rng.standard_normal((8, 3, 3, 3), np.float32)}
    found, expected = (next(one.observe([feeds], []))[one.graph.outputs[0]] for one in (to_torch(model), model))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
