"""torch's files through the command line: every kind that holds a model, and those that would run code."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from tests.cli.small_torch import network
from tests.models.torch.networks import save_pt2

ARCH = "tests.cli.small_torch:network"


@pytest.fixture
def pt2(tmp_path):
    path = tmp_path / "m.pt2"
    program = torch.export.export(network(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)
    return path


def answers(path, x):
    with torch.no_grad():
        return torch.export.load(path).module()(torch.from_numpy(x)).numpy()


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


def test_quantised_pt2_and_its_onnx_give_the_same_numbers(modelkit, pt2, calib, tmp_path):
    x = np.load(calib)["x"]
    outcome = modelkit("quantize", pt2, "--calib", calib, "--json")
    assert outcome.code == 0, outcome.err
    quantised = tmp_path / "m-int8.pt2"
    assert outcome.report["output"]["path"] == str(quantised)
    assert distance(answers(pt2, x), answers(quantised, x)) < 0.05
    layers = {layer["name"]: layer for layer in outcome.report["passes"][0]["layers"]}
    assert set(layers) == {"0", "4", "8"} and all(layer["bytes_after"] < 0.6 * layer["bytes_before"] for layer in layers.values())
    assert modelkit("convert", quantised, "-o", tmp_path / "q.onnx", "--json").code == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    expected = answers(quantised, x)
    # A sum that falls between two integers may round either way, a step of one activation: the typical sample has none.
    rows = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert np.median(rows) < 1e-5 and rows.max() < 2e-2


def test_the_result_opens_in_a_process_that_knows_only_torch(modelkit, pt2, calib, tmp_path):
    modelkit("quantize", pt2, "--calib", calib, "-q")
    code = "import torch; print(tuple(torch.export.load('m-int8.pt2').module()(torch.randn(5, 3, 8, 8)).shape))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert done.stdout.strip() == "(5, 10)", done.stderr


def test_onnx_can_be_asked_for_at_once(modelkit, pt2, calib, tmp_path):
    outcome = modelkit("quantize", pt2, "--calib", calib, "-o", tmp_path / "q.onnx", "--json")
    assert outcome.code == 0 and outcome.report["output"]["format"] == "onnx"
    x = np.load(calib)["x"]
    session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"))
    assert distance(answers(pt2, x), session.run(None, {session.get_inputs()[0].name: x})[0]) < 0.05


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_only_needs_no_data(modelkit, pt2, tmp_path, bits):
    outcome = modelkit("quantize", pt2, "--bits", bits, "--json")
    assert outcome.code == 0
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    assert distance(answers(pt2, x), answers(tmp_path / f"m-int{bits}.pt2", x)) < (0.05 if bits == 8 else 0.4)


def test_torchscript_takes_its_shapes_from_calibration_data(modelkit, calib, tmp_path):
    torch.jit.trace(network(), torch.randn(2, 3, 8, 8)).save(tmp_path / "m.pt")
    outcome = modelkit("quantize", "m.pt", "--calib", calib, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.report["inputs"][0]["format"] == "torchscript" and outcome.report["output"]["path"] == "m-int8.pt2"
    x = np.load(calib)["x"]
    assert distance(network()(torch.from_numpy(x)).detach().numpy(), answers(tmp_path / "m-int8.pt2", x)) < 0.05


def test_torchscript_without_shapes_names_the_flag(refused, tmp_path):
    torch.jit.trace(network(), torch.randn(2, 3, 8, 8)).save(tmp_path / "m.pt")
    assert "--input" in refused("quantize", "m.pt")


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}, lambda s: {"model": s}]
)
def test_state_dicts_with_their_architecture(modelkit, tmp_path, wrap):
    torch.save(wrap(network().state_dict()), tmp_path / "m.pt")
    outcome = modelkit("quantize", "m.pt", "--arch", ARCH, "--input", "x:float32[1,3,8,8]", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.report["inputs"][0]["format"] == "state_dict"


def test_a_state_dict_without_architecture_names_the_flag(refused, tmp_path):
    torch.save(network().state_dict(), tmp_path / "m.pt")
    assert "--arch" in refused("quantize", "m.pt")
    refused("quantize", "m.pt", "--arch", "no_such_module:factory")
    refused("quantize", "m.pt", "--arch", "tests.cli.small_torch")


def test_a_pickled_module_needs_trust(refused, modelkit, tmp_path):
    torch.save(network(), tmp_path / "m.pt")
    assert "--trust" in refused("quantize", "m.pt")
    assert modelkit("quantize", "m.pt", "--trust", "--input", "x:float32[1,3,8,8]", "-q").code == 0


class Evil:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


@pytest.mark.parametrize("name", ["m.pt", "m.pt2", "m.bin"])
def test_a_pickle_that_would_run_code_never_runs(refused, tmp_path, name):
    torch.save({"weight": torch.ones(3), "evil": Evil()}, tmp_path / name)
    refused("quantize", name)
    refused("inspect", name)
    assert not (tmp_path / "ran.txt").exists()


def test_truncated_torch_files(refused, pt2, tmp_path):
    whole = pt2.read_bytes()
    for part in (0.1, 0.5, 0.95):
        pt2.write_bytes(whole[: int(len(whole) * part)])
        refused("inspect", pt2)


@pytest.mark.parametrize(
    "words",
    [
        ("prune", "--macs", "0.5", "--algorithm", "magnitude"),
        ("lowrank", "--rank", "3", "--always"),
        ("quantize", "--bits", "4", "--algorithm", "qera"),
    ],
)
def test_what_was_changed_as_soon_as_it_was_exported_takes_any_batch(modelkit, tmp_path, words):
    """Shapes computed for new operators must leave no condition on the batch behind."""
    torch.save(wide().state_dict(), tmp_path / "m.pt")
    command, *rest = words
    given = ["--arch", "tests.cli.test_torch_files:wide", "--input", "input:float32[1,3,32,32]"]
    outcome = modelkit(command, "m.pt", *given, *rest, "-o", "o.pt2", "--json")
    assert outcome.code == 0, outcome.err
    module = torch.export.load("o.pt2").module()
    for batch in (1, 15, 16, 64):
        assert module(torch.zeros(batch, 3, 32, 32)).shape == (batch, 10)


def wide():
    layers = [torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 10))


@pytest.mark.parametrize("given", ["data", "nothing"])
def test_linear_layers_are_integers_in_pytorch_too(modelkit, tmp_path, given):
    """Laid out for CUDA; grids without saturation, so that any processor that this runs on adds them exactly."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(20, 48), torch.nn.ReLU(), torch.nn.Linear(48, 10)).eval()
    x = torch.randn(64, 6, 20)
    save_pt2(tmp_path / "m.pt2", module, x[:2])
    np.savez(tmp_path / "c.npz", x=x.numpy())
    words = ["--calib", tmp_path / "c.npz"] if given == "data" else []
    outcome = modelkit("quantize", tmp_path / "m.pt2", *words, "--target", "cuda", "-p", "reduce_range=true", "--json")
    assert outcome.code == 0, outcome.err
    assert all(" a8" in layer["form"] for layer in outcome.report["passes"][0]["layers"])
    program = torch.export.load(tmp_path / "m-int8.pt2")
    assert [str(node.target) for node in program.graph.nodes].count("aten._int_mm.default") == 2
    for count in (1, 5):
        with torch.no_grad():
            found, expected = program.module()(x[:count]), module(x[:count])
        assert distance(expected.numpy(), found.numpy()) < 0.05
    again = modelkit("inspect", tmp_path / "m-int8.pt2", "--json").report["inputs"][0]
    assert [layer["form"] for layer in again["layers"]] == ["int8 per-channel"] * 2
    assert again["macs"] == modelkit("inspect", tmp_path / "m.pt2", "--json").report["inputs"][0]["macs"]
