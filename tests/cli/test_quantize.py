"""`modelkit quantize` end to end on a small ONNX model."""

import json

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest

from modelkit.report.schema import json_schema
from tests.cli.conftest import in_new_process


def run(path, x):
    return onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0]


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


def test_static_int8_is_small_close_and_integer(modelkit, model, calib):
    outcome = modelkit("quantize", model, "--calib", calib, "--no-measure", "--json")
    assert outcome.code == 0
    report = outcome.report
    jsonschema.validate(report, json_schema("report"))
    out = model.with_name("m-int8.onnx")
    assert report["output"]["path"] == str(out) and report["output"]["bytes"] == out.stat().st_size
    assert report["output"]["bytes"] < 0.6 * report["inputs"][0]["bytes"]
    assert report["output"]["macs"] == report["inputs"][0]["macs"] == (16 * 27 + 32 * 144) * 64 + 320
    x = np.load(calib)["x"]
    assert distance(run(model, x), run(out, x)) < 0.05
    layers = {layer["name"]: layer for layer in report["passes"][0]["layers"]}
    assert set(layers) == {"c1", "c2", "fc"} and all(layer["skipped"] is None for layer in layers.values())
    assert all(0 < layer["error"] < 0.1 for layer in layers.values())


def test_integer_kernels_are_what_runs(modelkit, model, calib, tmp_path):
    modelkit("quantize", model, "--calib", calib, "--no-measure", "-q")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(model.with_name("m-int8.onnx")), options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2 and "QGemm" in kinds and "Conv" not in kinds


def test_without_data_the_file_is_smaller_and_says_what_it_cannot(modelkit, model):
    outcome = modelkit("quantize", model, "--bits", "8", "--json")
    assert outcome.code == 0
    assert outcome.report["output"]["bytes"] < 0.6 * outcome.report["inputs"][0]["bytes"]
    assert any("--calib" in warning for warning in outcome.report["warnings"])
    forms = {layer["name"]: layer["form"] for layer in outcome.report["passes"][0]["layers"]}
    assert "dynamic" in forms["fc"] and "dynamic" not in forms["c1"]


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_weights_are_stored_in_their_bits(modelkit, model, bits):
    outcome = modelkit("quantize", model, "--bits", bits, "--json")
    layer = next(layer for layer in outcome.report["passes"][0]["layers"] if layer["name"] == "c2")
    weights = 32 * 16 * 9
    assert weights * bits / 8 <= layer["bytes_after"] <= weights * bits / 8 + 2500
    assert model.with_name(f"m-int{bits}.onnx").exists()


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_every_calibration_method_gives_a_close_model(modelkit, model, calib, method):
    assert modelkit("quantize", model, "--calib", calib, "--calib-method", method, "--no-measure", "-q").code == 0
    x = np.load(calib)["x"]
    assert distance(run(model, x), run(model.with_name("m-int8.onnx"), x)) < 0.15


def test_measuring_leaves_a_model_that_works(modelkit, model, calib):
    outcome = modelkit("quantize", model, "--calib", calib, "--json")
    assert outcome.code == 0
    x = np.load(calib)["x"]
    assert distance(run(model, x), run(model.with_name("m-int8.onnx"), x)) < 0.05


def test_ignored_layers_are_listed_with_the_reason(modelkit, model, calib):
    outcome = modelkit("quantize", model, "--calib", calib, "--ignore", "c1", "--no-measure", "--json")
    layers = {layer["name"]: layer for layer in outcome.report["passes"][0]["layers"]}
    assert layers["c1"]["skipped"] == "ignored by --ignore" and layers["c1"]["bytes_after"] == layers["c1"]["bytes_before"]
    assert layers["c2"]["skipped"] is None


def test_only_takes_a_regular_expression(modelkit, model):
    outcome = modelkit("quantize", model, "--only", "re:^fc$", "--json")
    skipped = {layer["name"]: layer["skipped"] for layer in outcome.report["passes"][0]["layers"]}
    assert skipped == {"c1": "not named by --only", "c2": "not named by --only", "fc": None}


def test_a_dry_run_writes_nothing_and_says_what_it_would(modelkit, model, calib):
    before = sorted(model.parent.iterdir())
    outcome = modelkit("quantize", model, "--calib", calib, "--dry-run", "--json")
    assert outcome.code == 0 and outcome.report["output"] is None
    assert [layer["form"] for layer in outcome.report["passes"][0]["layers"]] == ["int8 (static)"] * 3
    assert sorted(model.parent.iterdir()) == before


def test_the_result_tells_its_history(modelkit, model, calib):
    modelkit("quantize", model, "--calib", calib, "--no-measure", "-q")
    inspected = modelkit("inspect", model.with_name("m-int8.onnx"), "--json").report["inputs"][0]
    assert inspected["history"][0]["pass"] == "quantize.rtn" and inspected["history"][0]["options"]["bits"] == 8
    assert {layer["form"] for layer in inspected["layers"]} == {"int8 per-channel"}
    assert inspected["parameters"] == 16 * 28 + 32 * 145 + 330


def test_two_runs_are_the_same_to_the_bit(modelkit, model, calib, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        modelkit("quantize", model, "--calib", calib, "--no-measure", "-q", "-o", tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_gates_pass_and_fail(modelkit, model, calib, labelled):
    outcome = modelkit("quantize", model, "--calib", calib, "--data", labelled, "--max-drop", "accuracy=0.5", "--json")
    assert outcome.code == 0 and outcome.report["gates"][0]["passed"] is True
    assert {m["quality"]["accuracy"]["n"] for m in outcome.report["measurements"]} == {64}
    outcome = modelkit(
        "quantize",
        model,
        "--bits",
        2,
        "--algorithm",
        "rtn",
        "--group-size",
        0,
        "--data",
        labelled,
        "--max-drop",
        "accuracy=0.0",
        "--json",
    )
    assert outcome.code == 1 and outcome.report["gates"][0]["passed"] is False
    jsonschema.validate(outcome.report, json_schema("report"))


def test_a_broken_result_is_a_loud_warning(modelkit, model):
    outcome = modelkit("quantize", model, "--bits", 2, "--algorithm", "rtn", "--group-size", 0, "--json")
    assert any("probably broken" in warning for warning in outcome.report["warnings"])


def test_reports_are_pipes(model, calib):
    first = in_new_process("quantize", model, "--calib", calib, "--no-measure", "--json")
    second = in_new_process("inspect", "-", "--json", input=first.out)
    assert second.code == 0 and second.report["inputs"][0]["path"] == first.report["output"]["path"]


def test_reports_of_every_format_are_written(modelkit, model, calib, tmp_path):
    names = [tmp_path / f"r.{suffix}" for suffix in ("json", "md", "html", "xml")]
    flags = [word for name in names for word in ("--report", name)]
    assert modelkit("quantize", model, "--calib", calib, "--no-measure", "-q", *flags).code == 0
    jsonschema.validate(json.loads(names[0].read_text()), json_schema("report"))
    assert all(name.stat().st_size > 200 for name in names)
    bench = modelkit("inspect", names[0], "--json")
    assert bench.report["inputs"][0]["path"].endswith("m-int8.onnx")


def test_json_is_the_only_thing_on_standard_output(model):
    outcome = in_new_process("quantize", model, "--json")
    json.loads(outcome.out)


def test_schemes(modelkit, model, calib):
    outcome = modelkit("quantize", model, "--scheme", "W4A16", "--json")
    assert outcome.report["passes"][0]["options"] | {"bits": 4, "activations": "none"} == outcome.report["passes"][0]["options"]
    outcome = modelkit("quantize", model, "--scheme", "W8A8", "--calib", calib, "--no-measure", "--json")
    assert outcome.report["passes"][0]["options"]["activations"] == "static"


def test_external_data_beside_the_input_and_from_another_folder(modelkit, model, calib, tmp_path, monkeypatch):
    place = tmp_path / "elsewhere"
    place.mkdir()
    onnx.save(onnx.load(model), place / "w.onnx", save_as_external_data=True, location="w.onnx.data", size_threshold=0)
    monkeypatch.chdir("/")
    outcome = modelkit("quantize", place / "w.onnx", "--calib", calib, "--no-measure", "--json")
    assert outcome.code == 0, outcome.err
    out = place / "w-int8.onnx"
    files = [path for path in place.iterdir() if path.name.startswith("w-int8")]
    assert outcome.report["output"]["bytes"] == sum(path.stat().st_size for path in files)
    assert outcome.report["inputs"][0]["bytes"] == (place / "w.onnx").stat().st_size + (place / "w.onnx.data").stat().st_size
    x = np.load(calib)["x"]
    assert distance(run(model, x), run(out, x)) < 0.05
    again = modelkit("quantize", place / "w.onnx", "--calib", calib, "--no-measure", "--force", "--json")
    assert again.code == 0 and distance(run(model, x), run(out, x)) < 0.05


def test_a_kill_between_the_renames_leaves_the_old_model_whole(modelkit, model, calib, tmp_path, monkeypatch):
    import os

    place = tmp_path / "elsewhere"
    place.mkdir()
    onnx.save(onnx.load(model), place / "w.onnx", save_as_external_data=True, location="w.onnx.data", size_threshold=0)
    out = place / "w-int8.onnx"
    assert modelkit("quantize", place / "w.onnx", "--calib", calib, "--no-measure", "-q").code == 0
    x = np.load(calib)["x"]
    before = run(out, x)
    rename = os.replace

    def killed(source, target):
        if str(target).endswith(".onnx"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", killed)
    outcome = modelkit("quantize", place / "w.onnx", "--only", "c2", "--calib", calib, "--no-measure", "-q", "--force")
    assert outcome.code == 130
    assert (run(out, x) == before).all()
    monkeypatch.setattr(os, "replace", rename)
    assert modelkit("quantize", place / "w.onnx", "--only", "c2", "--calib", calib, "--no-measure", "-q", "--force").code == 0
    assert (run(out, x) != before).any()
    assert len([path for path in place.iterdir() if path.name.startswith("w-int8") and path.suffix == ".data"]) <= 2


@pytest.mark.parametrize("batch", [5, 20, 32])
def test_a_fixed_batch_is_filled_up(modelkit, model, calib, batch):
    network = onnx.load(model)
    for value in (network.graph.input[0], network.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(network, model)
    outcome = modelkit("quantize", model, "--calib", calib, "--no-measure", "--json")
    assert outcome.code == 0, outcome.err
    x = np.resize(np.load(calib)["x"], (batch, 3, 8, 8))
    assert distance(run(model, x), run(model.with_name("m-int8.onnx"), x)) < 0.05


def test_outliers_of_an_activation_are_spread_over_the_weights(modelkit, tmp_path):
    rng = np.random.default_rng(5)
    x = np.tanh(rng.standard_normal((64, 16, 32))).astype(np.float32)
    weight = onnx.numpy_helper.from_array(rng.standard_normal((32, 24)).astype(np.float32), "fc.weight")
    gain = onnx.numpy_helper.from_array(np.where(np.arange(32) == 7, 80, 1).astype(np.float32), "gain")
    nodes = [onnx.helper.make_node("Mul", ["x", "gain"], ["h"]), onnx.helper.make_node("MatMul", ["h", "fc.weight"], ["y"])]
    shape = ["batch", 16, 32]
    infos = [onnx.helper.make_tensor_value_info(name, 1, [*shape[:2], n]) for name, n in (("x", 32), ("y", 24))]
    graph = onnx.helper.make_graph(nodes, "g", infos[:1], infos[1:], [weight, gain])
    model = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), model)
    np.savez(tmp_path / "c.npz", x=x)
    errors = {}
    for flag in ("--smooth", "--no-smooth"):
        layer = modelkit("quantize", model, "--calib", "c.npz", flag, "--no-measure", "--force", "--json").report["passes"][0]
        errors[flag] = distance(run(model, x)[..., :], run(tmp_path / "m-int8.onnx", x))
        assert ("smoothed" in layer["layers"][0]["form"]) == (flag == "--smooth")
    assert errors["--smooth"] < errors["--no-smooth"]
