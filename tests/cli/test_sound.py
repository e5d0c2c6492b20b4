"""Models of sound: waveforms of open length, counted lengths, and spectra over many orders of magnitude."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

WINDOW, STEP, BANDS = 256, 160, 8


@pytest.fixture
def spectrum(tmp_path):
    """log(|filters ∗ waveform|² · W + ε), zero behind each waveform's end. Filters of 1 to 1e-4; windows of 256 values."""
    rng = np.random.default_rng(0)
    filters = rng.standard_normal((BANDS, 1, WINDOW)) * 10.0 ** np.linspace(0, -4, BANDS)[:, None, None] / WINDOW**0.5
    bands = np.eye(BANDS) + 1e-12 * rng.random((BANDS, BANDS))
    tensors = {"filters": filters.astype("f"), "bands": bands.astype("f"), "tiny": np.float32(1e-12), "zero": np.float32(0)}
    tensors |= {"one": np.array([1]), "two": np.array([2]), "step": np.array([STEP]), "start": np.array(0), "next": np.array(1)}
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["waveforms", "one"], ["channel"]),
        node("Conv", ["channel", "filters"], ["filtered"], strides=[STEP], name="filter"),
        node("Mul", ["filtered", "filtered"], ["power"]),
        node("Transpose", ["power"], ["frames"], perm=[0, 2, 1]),
        node("MatMul", ["frames", "bands"], ["summed"], name="sum"),
        node("Add", ["summed", "tiny"], ["above"]),
        node("Log", ["above"], ["logarithm"]),
        node("Shape", ["logarithm"], ["count"], start=1, end=2),
        node("Squeeze", ["count"], ["number"]),
        node("Range", ["start", "number", "next"], ["places"]),
        node("Div", ["lengths", "step"], ["ends"]),
        node("Unsqueeze", ["ends", "one"], ["column"]),
        node("Less", ["places", "column"], ["within"]),
        node("Unsqueeze", ["within", "two"], ["mask"]),
        node("Where", ["mask", "logarithm", "zero"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("waveforms", TensorProto.FLOAT, ["batch", "T"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None, BANDS])
    graph = helper.make_graph(nodes, "spectrum", inputs, [output], [numpy_helper.from_array(v, k) for k, v in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path = tmp_path / "spectrum.onnx"
    onnx.save(model, path)
    return path


def test_activations_that_8_bits_would_break_stay_floats(modelkit, spectrum):
    outcome = modelkit("quantize", spectrum, "--bits", 8, "--json")
    layers = {layer["name"]: layer["form"] for layer in outcome.report["passes"][0]["layers"]}
    assert outcome.code == 0 and layers == {"filter": "int8 per-channel", "sum": "int8 per-channel"}
    assert any("--scheme W8A8" in warning and "--calib" in warning for warning in outcome.report["warnings"])
    feeds = {"waveforms": np.random.default_rng(1).standard_normal((2, 8000)).astype("f"), "lengths": np.array([8000, 4000])}
    a, b = (onnxruntime.InferenceSession(str(p)).run(None, feeds)[0] for p in (spectrum, outcome.report["output"]["path"]))
    assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(a)


def test_what_is_asked_for_is_done_and_called_broken(modelkit, spectrum):
    outcome = modelkit("quantize", spectrum, "--scheme", "W8A8", "--json")
    layers = {layer["name"]: layer["form"] for layer in outcome.report["passes"][0]["layers"]}
    assert "dynamic" in layers["sum"]
    assert any("probably broken" in warning for warning in outcome.report["warnings"])


def test_lengths_stay_open_in_torch(modelkit, spectrum, tmp_path):
    outcome = modelkit("convert", spectrum, "-o", tmp_path / "spectrum.pt2")
    assert outcome.code == 0 and "open:" not in outcome.err
    module = torch.export.load(tmp_path / "spectrum.pt2").module()
    for length in (500, 20000):
        assert module(torch.zeros(3, length), torch.tensor([length] * 3)).shape == (3, (length - WINDOW) // STEP + 1, BANDS)
