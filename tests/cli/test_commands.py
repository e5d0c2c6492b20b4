"""The smaller commands."""

import json

import jsonschema
import numpy as np
import onnxruntime

from modelkit.report.schema import json_schema
from tests.cli.conftest import in_new_process


def test_inspect_fills_inputs(modelkit, model):
    outcome = modelkit("inspect", model, "--json")
    jsonschema.validate(outcome.report, json_schema("report"))
    (found,) = outcome.report["inputs"]
    assert found["macs"] == (16 * 27 + 32 * 144) * 64 + 320
    assert found["parameters"] == 16 * 28 + 32 * 145 + 330
    assert found["bytes"] == model.stat().st_size and len(found["sha256"]) == 64
    assert [(layer["name"], layer["kind"], layer["shape"]) for layer in found["layers"]] == [
        ("c1", "conv", [16, 3, 3, 3]),
        ("c2", "conv", [32, 16, 3, 3]),
        ("fc", "linear", [10, 32]),
    ]


def test_inspect_prints_a_table(modelkit, model):
    outcome = modelkit("inspect", model, "-v")
    assert outcome.code == 0 and "c2" in outcome.out and "conv" in outcome.out


def test_bench_measures_models_side_by_side(modelkit, model, calib, labelled):
    modelkit("quantize", model, "--calib", calib, "--no-measure", "-q")
    outcome = modelkit(
        "bench", model, model.with_name("m-int8.onnx"), "--data", labelled, "--metric", "accuracy", "--metric", "agreement",
        "--batch-size", "1,4", "--max-time", "0.2", "--threads", "1", "--samples", "--json",
    )  # fmt: skip
    assert outcome.code == 0
    jsonschema.validate(outcome.report, json_schema("report"))
    measured = outcome.report["measurements"]
    assert [(m["batch_size"], m["model"].endswith("m.onnx")) for m in measured] == [(1, True), (1, False), (4, True), (4, False)]
    for m in measured:
        latency = m["latency_ms"]
        assert 0 < latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"]
        assert latency["ci95"][0] <= latency["p50"] <= latency["ci95"][1]
        assert len(latency["samples"]) == latency["n"] and m["peak_memory_bytes"] > 1 << 20
    assert measured[0]["quality"]["accuracy"]["value"] == 1.0 and measured[0]["quality"]["accuracy"]["n"] == 64
    assert measured[1]["quality"]["accuracy"]["value"] == measured[1]["quality"]["agreement"]["value"]


def test_passes_shows_options(modelkit):
    outcome = modelkit("passes", "quantize.rtn", "--json")
    (found,) = outcome.report["available"]
    assert found["name"] == "quantize.rtn"
    assert {option["name"] for option in found["options"]} >= {"bits", "group_size", "symmetric"}
    jsonschema.validate(outcome.report, json_schema("report"))
    assert modelkit("passes", "quantize.magic").code == 2
    family = modelkit("passes", "prune.channel", "--json").report["available"]
    assert len(family) > 1 and all(found["name"].startswith("prune.channel.") for found in family)


def test_doctor_gives_advice(modelkit):
    outcome = modelkit("doctor", "--json")
    jsonschema.validate(outcome.report, json_schema("report"))
    assert outcome.report["advice"] and outcome.report["environment"]["cores"] >= 1


def test_schemas_are_schemas(modelkit):
    for which in ("report", "recipe"):
        jsonschema.Draft202012Validator.check_schema(json.loads(modelkit("schema", which).out))
    assert modelkit("schema", "poem").code == 2


def test_convert_goes_there_and_back(modelkit, model, tmp_path):
    first = modelkit("convert", model, "-o", tmp_path / "m.pt2", "--json")
    assert first.code == 0 and first.report["output"]["format"] == "pt2"
    assert first.report["output"]["macs"] == first.report["inputs"][0]["macs"]
    second = modelkit("convert", tmp_path / "m.pt2", "-o", tmp_path / "back.onnx", "--json")
    assert second.code == 0
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    a, b = (onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0] for path in (model, tmp_path / "back.onnx"))
    assert np.allclose(a, b, atol=1e-5)


def test_convert_needs_a_format(refused, model):
    assert "-o" in refused("convert", model)


def test_the_pipeline_of_the_contract(model, calib):
    first = in_new_process("quantize", model, "--calib", calib, "--json")
    second = in_new_process("bench", "-", "--max-time", "0.2", "--json", input=first.out)
    assert second.report["measurements"][0]["latency_ms"]["p50"] > 0


def test_bench_puts_runtimes_side_by_side_and_profiles_them(modelkit, model, tmp_path):
    words = ("--runtime", "onnxruntime", "--runtime", "torch", "--profile", "--max-time", "0.1", "--threads", "1", "--json")
    outcome = modelkit("bench", model, *words)
    assert outcome.code == 0, outcome.err
    jsonschema.validate(outcome.report, json_schema("report"))
    measured = outcome.report["measurements"]
    assert [m["runtime"] for m in measured] == ["onnxruntime", "torch"]
    for m in measured:
        trace = tmp_path / f"m-{m['runtime']}.trace.json"
        assert m["profile"]["trace"] == str(trace)
        events = json.loads(trace.read_text())
        assert any("dur" in event for event in (events["traceEvents"] if isinstance(events, dict) else events))
        assert sum(layer["share"] for layer in m["profile"]["layers"]) > 0.99
        assert any("conv" in layer["op"].lower() for layer in m["profile"]["layers"])
