"""What can't be used ends with exit 2, one line of what is wrong and one of what to do, and nothing written."""

import os

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.cli.conftest import small_network


def test_missing_model(refused):
    assert "does not exist" in refused("quantize", "nowhere.onnx")


def test_empty_model(refused, tmp_path):
    (tmp_path / "e.onnx").write_bytes(b"")
    assert "empty" in refused("quantize", "e.onnx")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_truncated_model(refused, model, part):
    whole = model.read_bytes()
    model.write_bytes(whole[: int(len(whole) * part)])
    refused("quantize", model)


def test_not_a_model(refused, tmp_path):
    (tmp_path / "m.onnx").write_text("hello, I am no model at all\n" * 20)
    refused("quantize", "m.onnx")
    (tmp_path / "m.txt").write_bytes(os.urandom(4096))
    refused("inspect", "m.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_to_read(refused, model):
    model.chmod(0)
    assert "permission" in refused("quantize", model)


def test_no_permission_to_write(refused, model, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "can't be written" in refused("quantize", model)


def test_a_folder_without_config(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    assert "config.json" in refused("quantize", "folder")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(refused, model, value):
    network = small_network()
    weight = numpy_helper.to_array(network.graph.initializer[2]).copy()
    weight[0, 0, 0, 0] = value
    network.graph.initializer[2].CopyFrom(numpy_helper.from_array(weight, "c2.weight"))
    onnx.save(network, model)
    assert "c2" in refused("quantize", model)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": np.zeros((4, 3, 8, 8), np.float32), "b": np.zeros(4, np.float32)}, "x"),
        ({"x": np.zeros((4, 3, 9, 9), np.float32)}, "x:float32"),
        ({"x": np.zeros((0, 3, 8, 8), np.float32)}, "no samples"),
        ({"x": np.array(["a", "b"])}, "x"),
        ({"x": np.full((4, 3, 8, 8), np.nan, np.float32)}, "NaN"),
    ],
)
def test_calibration_arrays_that_do_not_fit(refused, model, tmp_path, arrays, said):
    np.savez(tmp_path / "bad.npz", **arrays)
    assert said.lower() in refused("quantize", model, "--calib", "bad.npz").lower()


def test_calibration_data_that_is_not_there_or_damaged(refused, model, calib):
    refused("quantize", model, "--calib", "nowhere.npz")
    calib.write_bytes(calib.read_bytes()[:300])
    refused("quantize", model, "--calib", calib)


@pytest.mark.parametrize(
    "words",
    [
        ("--bits", "5"),
        ("--bits", "eight"),
        ("--algorithm", "magic"),
        ("--activations", "some"),
        ("--activations", "static"),
        ("--scheme", "W5A8"),
        ("--scheme", "W4A8"),
        ("--scheme", "W4A16", "--bits", "8"),
        ("--calib-method", "magic"),
        ("--target", "abacus"),
        ("--group-size", "-3"),
        ("--bits", "4", "--activations", "dynamic"),
        ("--ignore", "nothing-like-this"),
        ("--only", "re:("),
        ("--only", "c1", "--ignore", "c1"),
        ("-p", "colour=red"),
        ("-p", "colour"),
        ("--input", "x"),
        ("--input", "y:float32[1,3,8,8]"),
        ("--input", "x:float32[1,4,8,8]"),
        ("--max-drop", "accuracy=0.1"),
        ("--report", "report.docx"),
        ("--report", "no/such/folder/r.json"),
        ("-o", "result.docx"),
        ("-o", "result.gguf"),
        ("-o", "no/such/folder/m.onnx"),
        ("--no-such-flag",),
    ],
)
def test_wrong_options(refused, model, calib, words):
    extra = () if "static" in words else ("--calib", calib) if "--calib-method" in words else ()
    refused("quantize", model, *extra, *words)


def test_max_drop_needs_a_number(refused, model, labelled):
    refused("quantize", model, "--data", labelled, "--max-drop", "accuracy=much")


def test_a_metric_nobody_knows(refused, model, labelled):
    refused("bench", model, "--data", labelled, "--metric", "beauty")


def test_the_input_is_never_overwritten(refused, model):
    assert "is the input" in refused("quantize", model, "-o", model, "--force")
    os.link(model, model.with_name("same.onnx"))
    assert "is the input" in refused("quantize", model, "-o", model.with_name("same.onnx"), "--force")


def test_what_stands_at_out_needs_force(refused, modelkit, model):
    out = model.with_name("m-int8.onnx")
    out.write_bytes(b"precious")
    assert "--force" in refused("quantize", model)
    assert out.read_bytes() == b"precious"
    assert modelkit("quantize", model, "--force", "-q").code == 0
    assert out.read_bytes() != b"precious"


def test_a_failure_while_writing_leaves_out_unchanged(modelkit, model, monkeypatch):
    from modelkit.models.onnx.model import OnnxModel

    out = model.with_name("m-int8.onnx")
    out.write_bytes(b"precious")

    def full(self, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OnnxModel, "save", full)
    outcome = modelkit("quantize", model, "--force")
    assert outcome.code == 2 and "disk is full" in outcome.err
    assert out.read_bytes() == b"precious"
    assert sorted(path.name for path in model.parent.iterdir()) == ["m-int8.onnx", "m.onnx"]


def test_reports_that_name_no_model(refused, tmp_path):
    (tmp_path / "r.json").write_text('{"schema": "modelkit/report-1", "command": "bench", "output": null}')
    assert "no output model" in refused("inspect", "r.json")
    (tmp_path / "r.json").write_text('{"schema": "modelkit/report-9"}')
    assert "report-9" in refused("inspect", "r.json")
    (tmp_path / "r.json").write_text('{"schema": ')
    refused("inspect", "r.json")


def test_cuda_where_there_is_none(refused, model):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    refused("bench", model, "--device", "cuda")


def test_interrupting_ends_with_130(modelkit, model, monkeypatch):
    from modelkit.models.onnx.model import OnnxModel

    def interrupted(self, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(OnnxModel, "save", interrupted)
    outcome = modelkit("quantize", model)
    assert outcome.code == 130
    assert sorted(path.name for path in model.parent.iterdir()) == ["m.onnx"]
