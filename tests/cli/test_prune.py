"""`modelkit prune --pattern channel` end to end."""

import json
import re

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from modelkit.report.schema import json_schema
from tests.cli.conftest import in_new_process


@pytest.fixture
def torch_file(tmp_path):
    from tests.cli.small_torch import network

    path = tmp_path / "t.pt2"
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(torch.export.export(network(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},)), path)
    return path


def test_macs(modelkit, model):
    outcome = modelkit("prune", model, "--macs", "0.5", "--round-to", 8, "--json")
    assert outcome.code == 0
    report = outcome.report
    jsonschema.validate(report, json_schema("report"))
    before, after = report["inputs"][0], report["output"]
    assert after["path"] == str(model.with_name("m-pruned.onnx"))
    assert (
        after["macs"] <= 0.5 * before["macs"] and after["parameters"] < before["parameters"] and after["bytes"] < before["bytes"]
    )
    done = report["passes"][0]
    assert done["pass"] == "prune.channel.magnitude" and done["options"] == {"pattern": "channel", "macs": 0.5, "round_to": 8}
    assert {layer["name"]: layer["skipped"] for layer in done["layers"]}.keys() == {"c1", "c2", "fc"}
    assert after["history"][-1]["pass"] == "prune.channel.magnitude"
    shapes = {layer["name"]: layer["shape"] for layer in after["layers"]}
    assert (
        shapes["c1"][0] % 8 == shapes["c2"][0] % 8 == 0
        and shapes["c2"][1] == shapes["c1"][0]
        and shapes["fc"][1] == shapes["c2"][0]
    )
    x = np.zeros((5, 3, 8, 8), np.float32)
    assert onnxruntime.InferenceSession(after["path"]).run(None, {"x": x})[0].shape == (5, 10)


@pytest.mark.parametrize(("flag", "share"), [("--params", 0.6), ("--sparsity", 0.4)])
def test_other_budgets(modelkit, model, flag, share):
    outcome = modelkit("prune", model, flag, share, "--pattern", "channel", "--round-to", 1, "--json")
    assert outcome.code == 0, outcome.err
    before, after = outcome.report["inputs"][0], outcome.report["output"]
    if flag == "--params":
        assert 0.5 * before["parameters"] < after["parameters"] <= 0.6 * before["parameters"]
    else:
        widths = {layer["name"]: layer["shape"][0] for layer in after["layers"]}
        assert 0.5 * 48 <= widths["c1"] + widths["c2"] <= 0.6 * 48


@pytest.mark.parametrize("algorithm", ["obs", "wanda"])
def test_new_biases_count_as_parameters(modelkit, tmp_path, algorithm):
    torch.manual_seed(0)
    layers = [nn.Linear(12, 24, bias=False), nn.ReLU(), nn.Linear(24, 24, bias=False), nn.ReLU(), nn.Linear(24, 6, bias=False)]
    x, model = torch.randn(64, 12), tmp_path / "unbiased.pt2"
    torch.export.save(torch.export.export(nn.Sequential(*layers), (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},)), model)
    np.savez(tmp_path / "calib.npz", x=x.numpy())
    outcome = modelkit("prune", model, "--params", 0.6, "--algorithm", algorithm, "--calib", tmp_path / "calib.npz", "--json")
    assert outcome.code == 0, outcome.err
    before, after = outcome.report["inputs"][0]["parameters"], outcome.report["output"]["parameters"]
    assert 0.45 * before < after <= 0.6 * before


def test_torch_and_across_formats(modelkit, torch_file):
    outcome = modelkit("prune", torch_file, "--macs", "0.6", "--json")
    assert outcome.code == 0, outcome.err
    pruned = torch.export.load(outcome.report["output"]["path"]).module()
    assert pruned(torch.zeros(5, 3, 8, 8)).shape == (5, 10)
    outcome = modelkit("prune", torch_file, "--macs", "0.6", "-o", "other.onnx", "--json")
    assert outcome.code == 0, outcome.err
    session = onnxruntime.InferenceSession("other.onnx")
    assert session.run(None, {session.get_inputs()[0].name: np.zeros((4, 3, 8, 8), np.float32)})[0].shape == (4, 10)


def test_speed_is_that_of_the_file_given(modelkit, torch_file, monkeypatch):
    """Folded norms count: where they make the model fast enough in PyTorch, all channels stay."""

    class Measured:
        def __init__(self, original, feeds, threads):
            self.norms = [node.name for node in original.graph.nodes if node.kind == "norm"]

        def latencies_ms(self, model):
            assert self.norms and all(node.kind != "norm" for node in model.graph.nodes)
            return 2.0, 1.0

        def __call__(self, model, aim=None):
            return 2.0

    monkeypatch.setattr("modelkit.bench.speedup.Speedup", Measured)
    outcome = modelkit("prune", torch_file, "--pattern", "channel", "--speedup", 1.9, "--round-to", 1, "--json")
    assert outcome.code == 0, outcome.err
    assert all(layer["form"] == "dense" for layer in outcome.report["passes"][0]["layers"])
    assert any("2.00 times as fast already" in warning for warning in outcome.report["warnings"])


def test_layers_are_left_out_by_name(modelkit, model):
    outcome = modelkit("prune", model, "--macs", "0.8", "--ignore", "c1", "--json")
    assert outcome.code == 0, outcome.err
    layers = {layer["name"]: layer for layer in outcome.report["passes"][0]["layers"]}
    assert layers["c1"]["skipped"] == "ignored by --ignore" and layers["c1"]["form"] == "dense"
    assert layers["c2"]["skipped"] is None and layers["c2"]["form"].startswith("dense ")
    outcome = modelkit("prune", model, "--macs", "0.9", "--only", "c1", "-o", "o.onnx", "--json")
    shapes = {layer["name"]: layer["shape"] for layer in outcome.report["output"]["layers"]}
    assert shapes["c1"][0] < 16 and shapes["c2"][0] == 32


def test_dry_run_writes_nothing(modelkit, model, tmp_path):
    before = set(tmp_path.iterdir())
    outcome = modelkit("prune", model, "--macs", "0.5", "--dry-run", "--json")
    assert outcome.code == 0 and outcome.report["output"] is None and set(tmp_path.iterdir()) == before
    assert [layer["name"] for layer in outcome.report["passes"][0]["layers"]] == ["c1", "c2", "fc"]


def test_zeros_go_the_other_way(modelkit, model):
    outcome = modelkit("prune", model, "--sparsity", "0.5", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.report["passes"][0]["pass"] == "prune.magnitude"
    assert outcome.report["output"]["path"].endswith("m-sparse.onnx")
    assert all(layer["sparsity"] == pytest.approx(0.5, abs=0.05) for layer in outcome.report["output"]["layers"])


def test_pipes_into_the_next_command(model, tmp_path):
    pruned = in_new_process("prune", model, "--macs", "0.6", "--json", cwd=tmp_path)
    done = in_new_process("quantize", "-", "--json", input=pruned.out, cwd=tmp_path)
    assert done.code == 0, done.err
    assert [entry["pass"] for entry in json.loads(done.out)["output"]["history"]] == ["prune.channel.magnitude", "quantize.rtn"]


def test_a_pruned_onnx_file_is_pruned_again(modelkit, model):
    first = modelkit("prune", model, "--macs", "0.8", "--round-to", 1, "--json").report["output"]
    second = modelkit("prune", first["path"], "--macs", "0.8", "--round-to", 1, "--json").report["output"]
    assert second["macs"] <= 0.8 * first["macs"] and len(second["history"]) == 2


@pytest.mark.parametrize(("budget", "bound"), [(["--macs", "0.01"], "at least"), (["--sparsity", "0.99"], "at most")])
def test_impossible_budgets_say_how_far_it_goes(refused, modelkit, model, budget, bound):
    message = refused("prune", model, *budget, "--pattern", "channel", "--round-to", 8)
    furthest = re.search(rf"{budget[0]} is {bound} ([\d.]+)\.\n", message)[1]
    assert "--round-to" in message
    assert modelkit("prune", model, budget[0], furthest, "--pattern", "channel", "--round-to", 8, "-q").code == 0


@pytest.mark.parametrize("words", [
    ["--sparsity", "0"], ["--sparsity", "1"], ["--sparsity", "1.5", "--pattern", "channel"], ["--sparsity", "-0.1"],
    ["--macs", "0"], ["--macs", "1"], ["--params", "nan"], ["--speedup", "1"], ["--speedup", "inf"],
    [], ["--macs", "0.5", "--params", "0.5"],
    ["--macs", "0.5", "--pattern", "2:4"], ["--sparsity", "0.5", "--pattern", "diagonal"],
    ["--macs", "0.5", "--algorithm", "nonsense"], ["--macs", "0.5", "--ignore", "nothing*"],
    ["--macs", "0.5", "--only", "fc"], ["--macs", "0.5", "-p", "strength=2"],
    ["--sparsity", "0.5", "--algorithm", "sparsegpt"],
])  # fmt: skip
def test_refused(refused, model, words):
    refused("prune", model, *words)


def test_nothing_to_prune(refused, tmp_path):
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.eye(8, dtype=np.float32), "w")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "one", value[:1], value[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "one.onnx")
    assert "outputs keep their shape" in refused("prune", "one.onnx", "--macs", "0.5")


def test_quantised_models_are_not_pruned(modelkit, refused, model):
    modelkit("quantize", model, "--bits", "8", "-q")
    assert "first" in refused("prune", model.with_name("m-int8.onnx"), "--macs", "0.5")


def test_the_documented_training_of_a_pruned_file(modelkit, torch_file, monkeypatch):
    """The example of docs/pruning.md, on this small network."""
    from pathlib import Path

    modelkit("prune", torch_file, "--macs", "0.7", "-o", "pruned.pt2", "-q")
    text = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    torch.manual_seed(0)
    x = torch.randn(64, 3, 8, 8)
    y = x.mean((1, 2, 3)).gt(0).long()
    scope = {"batches": [(x, y)] * 30}
    exec(example, scope)
    assert scope["losses"][-1] < 0.8 * scope["losses"][0]
    trained = torch.export.load("trained.pt2").module()
    assert trained(torch.zeros(3, 3, 8, 8)).shape == (3, 10)
    outcome = modelkit("inspect", "trained.pt2", "--json")
    assert outcome.code == 0 and outcome.report["inputs"][0]["layers"][0]["shape"][0] < 16


@pytest.mark.parametrize("algorithm", ["wanda", "taylor"])
@pytest.mark.parametrize("family", ["onnx", "torch"])
@pytest.mark.parametrize("labels", [True, False])
def test_importance_from_data(modelkit, model, torch_file, tmp_path, algorithm, family, labels):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((32, 3, 8, 8)).astype(np.float32)}
    if labels:
        arrays["y"] = rng.integers(0, 10, 32)
    np.savez(tmp_path / "data.npz", **arrays)
    source = model if family == "onnx" else torch_file
    outcome = modelkit("prune", source, "--macs", "0.6", "--algorithm", algorithm, "--calib", tmp_path / "data.npz", "--json")
    assert outcome.code == 0, outcome.err
    report = outcome.report
    assert report["passes"][0]["pass"] == f"prune.channel.{algorithm}"
    assert report["output"]["macs"] <= 0.6 * report["inputs"][0]["macs"]


@pytest.mark.parametrize("algorithm", ["wanda", "taylor"])
def test_importance_from_data_needs_data(refused, model, algorithm):
    assert "needs calibration data" in refused("prune", model, "--macs", 0.5, "--algorithm", algorithm)
