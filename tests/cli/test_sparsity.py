"""`modelkit prune` for zeros, end to end on small models."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from modelkit.models.opening import open_model
from tests.cli.conftest import in_new_process
from tests.cli.small_torch import network


def run(path, x):
    return onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0]


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


def weights(path):
    model = open_model(path)
    return {layer.name: model.parameter(layer.name, "weight") for layer in model.graph.layers()}


@pytest.mark.parametrize("algorithm", ["magnitude", "wanda", "sparsegpt"])
def test_half_of_each_layer_goes(modelkit, model, calib, algorithm):
    outcome = modelkit("prune", model, "--sparsity", 0.5, "--algorithm", algorithm, "--calib", calib, "--json")
    assert outcome.code == 0, outcome.err
    report = outcome.report
    assert report["output"]["path"].endswith("m-sparse.onnx") and report["output"]["bytes"] < 0.75 * report["inputs"][0]["bytes"]
    assert report["passes"][0]["pass"] == f"prune.{algorithm}"
    layers = {layer["name"]: layer for layer in report["passes"][0]["layers"]}
    assert set(layers) == {"c1", "c2", "fc"} and all(0 < layer["error"] < 1 for layer in layers.values())
    assert {layer["name"]: round(layer["sparsity"], 1) for layer in report["output"]["layers"]} == {
        "c1": 0.5,
        "c2": 0.5,
        "fc": 0.5,
    }
    assert layers["c2"]["form"] == "sparse 50%" and layers["c2"]["bytes_after"] < 0.56 * layers["c2"]["bytes_before"]
    assert layers["fc"]["form"] == "dense", "too small to gain from sparse storage"
    assert any("not faster" in warning for warning in report["warnings"])


def test_calibration_decides_what_auto_is(modelkit, model, calib):
    names = []
    for extra in ([], ["--calib", calib]):
        outcome = modelkit("prune", model, "--sparsity", 0.5, *extra, "--force", "--json")
        names.append(outcome.report["passes"][0]["pass"])
    assert names == ["prune.magnitude", "prune.sparsegpt"]


def test_second_order_is_nearer_than_magnitude(modelkit, model, calib):
    errors = {}
    for algorithm in ("magnitude", "sparsegpt"):
        out = model.with_name(f"{algorithm}.onnx")
        modelkit("prune", model, "--sparsity", 0.5, "--algorithm", algorithm, "--calib", calib, "-o", out, "-q")
        x = np.random.default_rng(9).standard_normal((16, 3, 8, 8)).astype(np.float32)
        errors[algorithm] = distance(run(model, x), run(out, x))
    assert errors["sparsegpt"] < 0.7 * errors["magnitude"]


@pytest.mark.parametrize("family", ["onnx", "pt2"])
def test_two_of_every_four_inputs_stay(modelkit, model, calib, tmp_path, family):
    if family == "pt2":
        model = tmp_path / "m.pt2"
        program = torch.export.export(
            network(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},)
        )
        torch.export.save(program, model)
    outcome = modelkit("prune", model, "--pattern", "2:4", "--calib", calib, "--json")
    assert outcome.code == 0, outcome.err
    skipped = {layer["name"]: layer["skipped"] for layer in outcome.report["passes"][0]["layers"]}
    first = next(iter(skipped))
    assert "3 input channels" in skipped.pop(first) and set(skipped.values()) == {None}
    found = weights(outcome.report["output"]["path"])
    for name in skipped:
        kept = np.moveaxis(found[name].reshape(*found[name].shape[:2], -1), 1, 2) != 0
        assert (kept.reshape(-1, 4).sum(1) <= 2).all(), name
    assert "2:4" in {layer["form"] for layer in outcome.report["output"]["layers"]}


def test_the_runtime_unpacks_weights_when_it_loads_them(modelkit, model, tmp_path):
    modelkit("prune", model, "--sparsity", 0.5, "-q")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(model.with_name("m-sparse.onnx")), options)
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert not kinds & {"BitShift", "CumSum", "Where", "Gather"}


def test_sparse_models_cross_formats_and_stay_sparse(modelkit, model):
    modelkit("prune", model, "--sparsity", 0.5, "-q")
    sparse, there, back = (model.with_name(name) for name in ("m-sparse.onnx", "there.pt2", "back.onnx"))
    assert modelkit("convert", sparse, "-o", there, "-q").code == 0 and modelkit("convert", there, "-o", back, "-q").code == 0
    forms = [
        {layer["name"]: layer["form"] for layer in modelkit("inspect", path, "--json").report["inputs"][0]["layers"]}
        for path in (sparse, there, back)
    ]
    assert forms[0] == forms[1] == forms[2] and forms[0]["c2"] == "sparse 50%"


def test_quantising_keeps_the_zeros(modelkit, model, calib):
    modelkit("prune", model, "--sparsity", 0.6, "-q")
    for extra in (["--bits", 8, "--calib", calib, "--no-measure"], ["--bits", 4]):
        outcome = modelkit(
            "quantize", model.with_name("m-sparse.onnx"), *extra, "--force", "--json", "-o", model.with_name("q.onnx")
        )
        assert outcome.code == 0, outcome.err
        assert all(layer["sparsity"] > 0.59 for layer in outcome.report["output"]["layers"])
        assert all(layer["form"].startswith("int") for layer in outcome.report["output"]["layers"])


def test_a_sparse_model_is_pruned_further(modelkit, model):
    modelkit("prune", model, "--sparsity", 0.5, "-q")
    outcome = modelkit("prune", model.with_name("m-sparse.onnx"), "--sparsity", 0.8, "--json")
    assert {round(layer["sparsity"], 1) for layer in outcome.report["output"]["layers"]} == {0.8}


def test_the_pipe_of_the_manual(model, calib, tmp_path):
    pruned = in_new_process("prune", model, "--sparsity", 0.5, "--pattern", "2:4", "--json")
    assert pruned.code == 0, pruned.err
    quantised = in_new_process("quantize", "-", "--bits", 8, "--calib", calib, "--no-measure", "--json", input=pruned.out)
    assert quantised.code == 0, quantised.err
    benched = in_new_process("bench", "-", "--json", input=quantised.out)
    assert benched.code == 0 and json.loads(benched.out)["measurements"][0]["latency_ms"]["p50"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--sparsity", "0"], "between 0 and 1"),
        (["--sparsity", "1.5"], "between 0 and 1"),
        (["--sparsity", "0.5", "--pattern", "diagonal"], "unknown"),
        (["--sparsity", "0.6", "--pattern", "2:4"], "0.5"),
        (["--sparsity", "0.5", "--pattern", "4:4"], "keeps all or nothing"),
        (["--sparsity", "0.5", "--algorithm", "wanda"], "--calib"),
        (["--sparsity", "0.5", "--algorithm", "sparsegpt", "--dry-run"], "--calib"),
        (["--sparsity", "0.5", "--algorithm", "nosuch"], "nosuch"),
        (["--sparsity", "0.5", "-p", "damp=3"], "damp"),
        (["--sparsity", "0.5", "--ignore", "*"], "No layer can be pruned"),
        (["--sparsity", "0.5", "--ignore", "nosuch"], "matches no layer"),
    ],
)
def test_bad_requests_are_refused(refused, model, words, told):
    assert told in refused("prune", model, *words)


def test_weights_that_are_no_numbers_are_refused(refused, model):
    proto = onnx.load(model)
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "c2.weight")
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0, 0, 0, 0] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(array, "c2.weight"))
    onnx.save(proto, model)
    assert "c2" in refused("prune", model, "--sparsity", 0.5)
