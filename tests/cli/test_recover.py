"""`modelkit recover` end to end on a small convolutional network."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from modelkit.models.opening import open_model
from modelkit.publish import outputs_of
from modelkit.report.schema import json_schema
from tests.cli.small_torch import network


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The original as .pt2, data from inputs like those it saw, and the original with 70% of its weights gone."""
    folder = tmp_path_factory.mktemp("recover")
    x = torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = network()
    program = torch.export.export(net, (x[:2],), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=512)},))
    torch.export.save(program, folder / "original.pt2")
    labels = net(x).argmax(1).numpy()
    np.savez(folder / "data.npz", x=x.numpy())
    np.savez(folder / "labelled.npz", x=x.numpy(), y=labels)
    words = ["prune", folder / "original.pt2", "--sparsity", "0.7", "-q", "-o", folder / "sparse.pt2"]
    subprocess.run([sys.executable, "-m", "modelkit", *map(str, words)], check=True, capture_output=True)
    return folder


@pytest.fixture
def words(files, tmp_path):
    return ["recover", files / "sparse.pt2", "--teacher", files / "original.pt2", "--calib", files / "data.npz", "-o",
            tmp_path / "out.pt2"]  # fmt: skip


def test_the_result_is_nearer_to_the_original_and_as_small(modelkit, words, files, tmp_path):
    outcome = modelkit(*words, "--epochs", 30, "--json")
    assert outcome.code == 0, outcome.err
    report = outcome.report
    jsonschema.validate(report, json_schema("report"))
    found = report["recovery"]
    assert found["loss_after"] < 0.5 * found["loss_before"] and found["best_epoch"] > 0 and len(found["held_out"]) == 30
    assert [entry["pass"] for entry in report["output"]["history"]] == ["prune.magnitude", "recover"]
    assert abs(report["output"]["bytes"] - report["inputs"][0]["bytes"]) < 2048
    x = np.load(files / "data.npz")["x"]
    original, before, after = (open_model(path) for path in (files / "original.pt2", files / "sparse.pt2", tmp_path / "out.pt2"))
    (name,) = [spec.name for spec in original.graph.inputs]
    y, old, new = (outputs_of(model, {name: x})[0] for model in (original, before, after))
    assert np.linalg.norm(y - new) < 0.6 * np.linalg.norm(y - old)
    for layer in before.graph.layers():
        weights = [model.parameter(layer.name, "weight") for model in (before, after)]
        assert (weights[1][weights[0] == 0] == 0).all() and not np.array_equal(*weights)
        assert layer.parameters["weight"].form == after.graph.by_name[layer.name].parameters["weight"].form
    assert not list(tmp_path.glob("*.checkpoint*"))


def test_the_published_file_needs_no_modelkit(modelkit, words, files, tmp_path):
    assert modelkit(*words, "--epochs", 1, "-q").code == 0
    code = "import sys, torch; sys.modules['modelkit'] = None; model = torch.export.load(sys.argv[1]).module(); "
    code += "print(model(torch.zeros(1, 3, 8, 8)).shape)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out.pt2")], capture_output=True, text=True, cwd="/")
    assert "torch.Size([1, 10])" in done.stdout, done.stderr


@pytest.mark.parametrize("bits", ["8", "4"])
def test_quantised_models_stay_quantised(modelkit, files, tmp_path, bits):
    extra = ["--calib", files / "data.npz", "--no-measure"] if bits == "8" else ["--group-size", 16]
    assert modelkit("quantize", files / "original.pt2", "--bits", bits, *extra, "-q", "-o", tmp_path / "q.pt2").code == 0
    words = ["--teacher", files / "original.pt2", "--calib", files / "data.npz", "--epochs", 5, "--json"]
    outcome = modelkit("recover", tmp_path / "q.pt2", *words)
    assert outcome.code == 0, outcome.err
    assert outcome.report["output"]["path"].endswith("q-recovered.pt2")
    forms = [[layer["form"] for layer in model["layers"]] for model in (outcome.report["inputs"][0], outcome.report["output"])]
    assert forms[0] == forms[1] and all(form.startswith("int") for form in forms[0])
    assert outcome.report["recovery"]["loss_after"] <= outcome.report["recovery"]["loss_before"]
    grids = [open_model(path).grids for path in (tmp_path / "q.pt2", tmp_path / "q-recovered.pt2")]
    assert set(grids[0]) == set(grids[1]) and bool(grids[0]) is (bits == "8")


def test_an_onnx_teacher_and_an_onnx_result(modelkit, files, tmp_path):
    assert modelkit("convert", files / "original.pt2", "-o", tmp_path / "original.onnx", "-q").code == 0
    outcome = modelkit("recover", files / "sparse.pt2", "--teacher", tmp_path / "original.onnx", "--calib", files / "data.npz",
                       "--epochs", 10, "-o", tmp_path / "out.onnx", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.report["recovery"]["loss_after"] < outcome.report["recovery"]["loss_before"]
    forms = {layer["name"]: layer["form"] for layer in outcome.report["output"]["layers"]}
    assert any(form.startswith("sparse") for form in forms.values())


def test_labels_and_quality(modelkit, words, files):
    words = [files / "labelled.npz" if word == files / "data.npz" else word for word in words]
    outcome = modelkit(*words, "--epochs", 20, "--label-weight", 0.2, "--data", files / "labelled.npz", "--json")
    assert outcome.code == 0, outcome.err
    qualities = [measured["quality"]["accuracy"]["value"] for measured in outcome.report["measurements"]]
    assert len(qualities) == 3 and qualities[0] == 1.0 and qualities[2] >= qualities[1]


def test_the_result_is_never_worse_than_the_start(modelkit, words):
    outcome = modelkit(*words, "--epochs", 2, "--lr", 30, "--optimizer", "sgd", "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.report["recovery"]
    assert found["loss_after"] <= found["loss_before"]
    if found["best_epoch"] == 0:
        assert any("--lr" in warning for warning in outcome.report["warnings"])


def test_two_runs_are_the_same(modelkit, words, tmp_path):
    results = []
    for name in ("a.pt2", "b.pt2"):
        outcome = modelkit(*words[:-1], tmp_path / name, "--epochs", 3, "--precision", "float32", "--json")
        results.append(outcome.report["recovery"]["held_out"])
    assert results[0] == results[1]


def test_tensorboard_log(modelkit, words, tmp_path):
    assert modelkit(*words, "--epochs", 2, "--tensorboard", tmp_path / "log", "-q").code == 0
    assert any(path.name.startswith("events.out.tfevents") for path in (tmp_path / "log").iterdir())


def test_without_tensorboard_the_extra_is_named(refused, words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "modelkit[tensorboard]" in refused(*words, "--tensorboard", tmp_path / "log")


def test_a_kill_loses_little_and_resume_goes_on(words, tmp_path):
    command = [sys.executable, "-m", "modelkit", *map(str, words), "--epochs", "800", "--precision", "float32", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoint = tmp_path / "out.pt2.checkpoint"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    _wait(lambda: checkpoint.exists(), process)
    first = checkpoint.stat().st_ino
    _wait(lambda: checkpoint.stat().st_ino != first, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.pt2").exists()
    again = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert again.returncode == 2 and "--resume" in again.stderr and checkpoint.exists()
    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=environment)
    assert resumed.returncode == 0, resumed.stderr
    assert not checkpoint.exists() and (tmp_path / "out.pt2").exists()
    found = json.loads(resumed.stdout)["recovery"]
    assert found["resumed_at_step"] > 0 and len(found["held_out"]) == 800


def _wait(condition, process, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < until, process.stderr.read()
        time.sleep(0.05)


def test_a_checkpoint_of_another_run_is_refused(refused, modelkit, words, tmp_path):
    from modelkit.distill.checkpoint import Checkpoint

    checkpoint = tmp_path / "out.pt2.checkpoint"
    Checkpoint(checkpoint, {"student": "another", "epochs": 9}).save({})
    assert "--resume" in refused(*words)
    assert "other student" in refused(*words, "--resume")
    checkpoint.write_bytes(b"no checkpoint")
    assert "can't be read" in refused(*words, "--resume")
    assert modelkit(*words, "--epochs", 1, "--force", "-q").code == 0 and not checkpoint.exists()


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (["--epochs", "0"], "epochs"),
        (["--loss", "l1"], "--loss"),
        (["--optimizer", "lion"], "--optimizer"),
        (["--lr", "0"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--temperature", "-1"], "--temperature"),
        (["--label-weight", "0.5"], "labels"),
        (["--label-weight", "2"], "label-weight"),
        (["--precision", "int8"], "--precision"),
        (["--device", "cuda"], "CUDA"),
        (["-o", "sparse.pt2"], None),
    ],
)
def test_bad_options(refused, words, extra, word, files, monkeypatch):
    if word is None:
        extra, word = ["-o", files / "sparse.pt2"], "is the input"
    if word == "CUDA" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert word in refused(*words, *extra)


def test_an_onnx_model_says_what_to_do(refused, model, calib):
    message = refused("recover", model, "--teacher", model, "--calib", calib)
    assert "modelkit convert m.onnx -o m.pt2" in message


def test_a_teacher_that_is_another_model_is_refused(refused, words, files, tmp_path):
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 7)).eval()
    torch.export.save(torch.export.export(other, (torch.zeros(2, 3, 8, 8),)), tmp_path / "other.pt2")
    swapped = [tmp_path / "other.pt2" if word == files / "original.pt2" else word for word in words]
    assert "different outputs" in refused(*swapped)


def test_data_that_does_not_fit_is_refused(refused, words, files, tmp_path):
    np.savez(tmp_path / "one.npz", x=np.zeros((1, 3, 8, 8), np.float32))
    assert "too few" in refused(*[tmp_path / "one.npz" if word == files / "data.npz" else word for word in words])
    missing = Path("missing.npz")
    assert "missing.npz" in refused(*[missing if word == files / "data.npz" else word for word in words])


def test_a_dry_run_writes_nothing(modelkit, words, tmp_path):
    assert modelkit(*words, "--dry-run", "--json").code == 0
    assert not list(tmp_path.glob("out*"))
