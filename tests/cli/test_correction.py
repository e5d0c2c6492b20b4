"""`modelkit quantize --algorithm qera`: quantised weights with a low-rank correction beside them."""

import numpy as np
import onnxruntime
import pytest
import torch


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


def error(modelkit, model, x, *words):
    outcome = modelkit("quantize", model, "--bits", 3, "-o", "q.onnx", "--force", "--json", *words)
    assert outcome.code == 0, outcome.err
    given = onnxruntime.InferenceSession(str(model)).run(None, {"x": x})[0]
    return distance(given, onnxruntime.InferenceSession("q.onnx").run(None, {"x": x})[0]), outcome.report


def test_corrected_is_closer(modelkit, model, calib):
    x = np.load(calib)["x"]
    plain, before = error(modelkit, model, x, "--algorithm", "mse", "--calib", calib)
    corrected, after = error(modelkit, model, x, "--algorithm", "qera", "-p", "rank=4", "--calib", calib)
    assert corrected < 0.8 * plain
    layers = {layer["name"]: layer for layer in after["passes"][0]["layers"]}
    assert layers["c2"]["form"] == "int3 g64 asym + rank 4"
    for layer in before["passes"][0]["layers"]:
        assert layers[layer["name"]]["error"] < layer["error"]
        assert layer["bytes_after"] < layers[layer["name"]]["bytes_after"] < layer["bytes_before"]
    assert after["output"]["history"][-1]["pass"] == "quantize.qera"
    weights_only, _ = error(modelkit, model, x, "--algorithm", "qera", "-p", "rank=4")
    assert weights_only < plain


def test_a_full_correction_is_the_original(modelkit, model, calib):
    found, _ = error(modelkit, model, np.load(calib)["x"], "--algorithm", "qera", "-p", "rank=64", "-p", "factor_bits=32")
    assert found < 1e-5


def test_torch(modelkit, tmp_path):
    from tests.cli.small_torch import network

    torch.export.save(torch.export.export(network(), (torch.zeros(2, 3, 8, 8),)), tmp_path / "t.pt2")
    outcome = modelkit("quantize", "t.pt2", "--bits", 4, "--algorithm", "qera", "-p", "rank=4", "--json")
    assert outcome.code == 0, outcome.err
    x = torch.randn(2, 3, 8, 8)
    found = torch.export.load(outcome.report["output"]["path"]).module()(x)
    assert distance(network()(x).detach().numpy(), found.detach().numpy()) < 0.15
    assert any("+ rank 4" in layer["form"] for layer in outcome.report["passes"][0]["layers"])


@pytest.mark.parametrize(
    ("words", "said"), [(("--activations", "static"), "no place in integer arithmetic"), (("-p", "rank=0"), "out of bounds")]
)
def test_bad_input(refused, model, calib, words, said):
    assert said in refused("quantize", model, "--algorithm", "qera", "--calib", calib, *words)
