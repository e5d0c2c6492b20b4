"""`modelkit lowrank` end to end."""

from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime
import pytest
import torch

from modelkit import costs
from modelkit.report.schema import json_schema


@pytest.fixture
def torch_file(tmp_path):
    from tests.cli.small_torch import network

    path = tmp_path / "t.pt2"
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(torch.export.export(network(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},)), path)
    return path


class FixedLatency:
    """Time as the test says: a layer takes as long as it has parameters, `chain` times that in a chain."""

    whole = 1.5
    chain = 1.0
    folding = 1.0  # how much faster the original is with its norms folded

    def __init__(self, original, base, threads, seed):
        self.speedup = lambda model, aim=None: self.whole
        self.base_ms = self(base.graph)
        self.original_ms = self.base_ms * self.folding

    def __call__(self, graph):
        return self.part(graph)

    def part(self, graph):
        chained = any(node.name.endswith((".0", ".1", ".2")) for node in graph.nodes)
        return costs.parameters(graph) * (self.chain if chained else 1.0)


@pytest.fixture
def latency(monkeypatch):
    monkeypatch.setattr("modelkit.lowrank.pipeline.Latency", FixedLatency)
    return FixedLatency


def test_params(modelkit, model, calib):
    outcome = modelkit("lowrank", model, "--params", "0.6", "--always", "--round-to", 2, "--calib", calib, "--json")
    assert outcome.code == 0, outcome.err
    report = outcome.report
    jsonschema.validate(report, json_schema("report"))
    before, after = report["inputs"][0], report["output"]
    assert after["path"] == str(model.with_name("m-lowrank.onnx"))
    assert after["parameters"] <= 0.6 * before["parameters"] and after["bytes"] < before["bytes"]
    done = report["passes"][0]
    assert done["pass"] == "lowrank.refit" and done["options"] == {"params": 0.6, "round_to": 2, "always": True}
    assert any("rank" in layer["form"] and layer["bytes_after"] < layer["bytes_before"] for layer in done["layers"])
    assert all(layer["error"] is not None for layer in done["layers"] if layer["skipped"] is None)
    assert after["history"][-1]["pass"] == "lowrank.refit"
    x = np.zeros((5, 3, 8, 8), np.float32)
    assert onnxruntime.InferenceSession(after["path"]).run(None, {"x": x})[0].shape == (5, 10)


@pytest.mark.parametrize("algorithm", ["svd", "whitened", "refit", "fisher"])
@pytest.mark.parametrize("budget", [("--rank", 3), ("--energy", 0.8), ("--macs", 0.6)])
def test_algorithms_and_budgets(modelkit, model, calib, algorithm, budget):
    outcome = modelkit(
        "lowrank", model, *budget, "--always", "--round-to", 1, "--algorithm", algorithm, "--calib", calib, "--json"
    )
    assert outcome.code == 0, outcome.err
    before, after = outcome.report["inputs"][0], outcome.report["output"]
    if budget[0] == "--macs":
        assert after["macs"] <= 0.6 * before["macs"]
    else:
        assert after["parameters"] < before["parameters"]


def test_torch(modelkit, torch_file):
    outcome = modelkit("lowrank", torch_file, "--params", "0.6", "--always", "--round-to", 1, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.report["passes"][0]["pass"] == "lowrank.svd"
    after = outcome.report["output"]
    assert after["parameters"] <= 0.6 * outcome.report["inputs"][0]["parameters"]
    assert torch.export.load(after["path"]).module()(torch.zeros(3, 3, 8, 8)).shape == (3, 10)


def test_into_the_other_family(modelkit, model, tmp_path):
    outcome = modelkit("lowrank", model, "--rank", 3, "--always", "-o", tmp_path / "o.pt2", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.report["output"]["format"] == "pt2"


def test_then_quantised(modelkit, model, calib):
    assert modelkit("lowrank", model, "--rank", 3, "--always", "-o", "low.onnx", "-q").code == 0
    outcome = modelkit("quantize", "low.onnx", "--bits", 8, "--json")
    assert outcome.code == 0, outcome.err
    assert [entry["pass"] for entry in outcome.report["output"]["history"]] == ["lowrank.svd", "quantize.rtn"]


def test_after_pruning(modelkit, model):
    assert modelkit("prune", model, "--macs", 0.7, "-o", "small.onnx", "-q").code == 0
    outcome = modelkit("lowrank", "small.onnx", "--params", 0.8, "--always", "--round-to", 1, "--json")
    assert outcome.code == 0, outcome.err


def test_only_what_is_faster(modelkit, model, latency, monkeypatch):
    outcome = modelkit("lowrank", model, "--params", 0.8, "--round-to", 1, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.report["output"]["parameters"] <= 0.8 * outcome.report["inputs"][0]["parameters"]
    assert outcome.report["passes"][0]["speedup"] == 1.5


def test_unchanged_where_factors_are_not_faster(modelkit, model, latency, monkeypatch):
    monkeypatch.setattr(latency, "chain", 100.0)
    outcome = modelkit("lowrank", model, "--rank", 3, "--json")
    assert outcome.code == 0, outcome.err
    assert any("written unchanged" in warning for warning in outcome.report["warnings"])
    assert Path(outcome.report["output"]["path"]).read_bytes() == Path(model).read_bytes()
    assert outcome.report["output"]["parameters"] == outcome.report["inputs"][0]["parameters"]
    assert all("--always" in layer["skipped"] for layer in outcome.report["passes"][0]["layers"])


def test_unchanged_where_the_whole_is_not_faster(modelkit, model, latency, monkeypatch):
    monkeypatch.setattr(latency, "whole", 0.9)
    outcome = modelkit("lowrank", model, "--rank", 3, "--json")
    assert outcome.code == 0 and any("written unchanged" in warning for warning in outcome.report["warnings"])


def test_unchanged_where_only_folded_norms_are_faster(modelkit, model, latency, monkeypatch):
    monkeypatch.setattr(latency, "folding", 1.6)
    outcome = modelkit("lowrank", model, "--rank", 3, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.report["output"]["parameters"] == outcome.report["inputs"][0]["parameters"]


def test_unchanged_where_only_slow_factors_meet_the_budget(modelkit, model, latency, monkeypatch):
    """All but c2 have a faster chain, but the budget wants more than that; --always could meet it."""
    part = latency.part

    def slow_c2(self, graph):
        chained = any(node.name.startswith("c2.") for node in graph.nodes)
        return part(self, graph) * (100 if chained else 1)

    monkeypatch.setattr(latency, "part", slow_c2)
    outcome = modelkit("lowrank", model, "--params", 0.25, "--round-to", 1, "--json")
    assert outcome.code == 0, outcome.err
    assert any("is out of reach of factors that are faster" in warning for warning in outcome.report["warnings"])
    assert outcome.report["output"]["parameters"] == outcome.report["inputs"][0]["parameters"]
    assert modelkit("lowrank", model, "--params", 0.25, "--round-to", 1, "--always", "-o", "a.onnx", "-q").code == 0


@pytest.mark.parametrize(("least", "code"), [(1.2, 0), (2.0, 1)])
def test_min_speedup(modelkit, model, latency, least, code):
    outcome = modelkit("lowrank", model, "--rank", 3, "--min-speedup", least, "--json")
    assert outcome.code == code
    assert outcome.report["gates"] == [{"gate": f"min-speedup {least:g}", "value": 1.5, "passed": code == 0}]


def test_speedup(modelkit, model, latency):
    outcome = modelkit("lowrank", model, "--speedup", 1.3, "--round-to", 1, "--json")
    assert outcome.code == 0, outcome.err


def test_dry_run(modelkit, model):
    outcome = modelkit("lowrank", model, "--rank", 3, "--dry-run", "--json")
    assert outcome.code == 0 and not model.with_name("m-lowrank.onnx").exists()
    assert {layer["name"] for layer in outcome.report["passes"][0]["layers"]} == {"c1", "c2", "fc"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rank", 0), "--rank 0 is no rank"),
        (("--rank", 1000), "not below the full rank"),
        (("--energy", 0), "--energy 0"),
        (("--energy", 1.5), "--energy 1.5"),
        (("--params", 1.5), "not between 0 and 1"),
        (("--params", 0.001, "--always"), "can't be reached"),
        (("--speedup", 0.5), "is no speed-up"),
        ((), "not said"),
        (("--rank", 3, "--params", 0.5), "exclude each other"),
        (("--rank", 3, "--algorithm", "nope"), "no algorithm 'nope'"),
        (("--rank", 3, "--algorithm", "whitened"), "needs calibration data"),
        (("--rank", 3, "--algorithm", "fisher"), "needs calibration data"),
        (("--rank", 3, "--ignore", "*"), "No layer can be factorised"),
    ],
)
def test_bad_input(refused, model, words, said):
    assert said in refused("lowrank", model, *words)
