"""`modelkit compare` through its entry point. Verdicts on time are for benchmarks/: here runs are short."""

import json

import jsonschema
import numpy as np
import onnx
import pytest

from modelkit.report.schema import json_schema
from tests.bench.small_models import deep_onnx, linear_onnx
from tests.cli.conftest import small_network
from tests.cli.test_startup import HEAVY, modules_after

QUICK = ("--max-time", "0.5", "--threads", "1")


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other.onnx"
    onnx.save(small_network(seed=3), path)
    return path


@pytest.fixture
def two_reports(modelkit, model, tmp_path):
    for name in ("old.json", "new.json"):
        assert modelkit("bench", model, "--max-time", "0.1", "--threads", "1", "-q", "--report", name).code == 0
    return "old.json", "new.json"


def test_a_comparison_has_a_verdict_for_each_metric(modelkit, model, other, labelled):
    asked = ("--data", labelled, "--metric", "accuracy", "--metric", "agreement", "--samples", "--json")
    outcome = modelkit("compare", model, other, *asked, *QUICK)
    assert outcome.code == 0, outcome.err
    jsonschema.validate(outcome.report, json_schema("report"))
    comparison = outcome.report["comparison"]
    (candidate,) = comparison["candidates"]
    assert comparison["baseline"] == str(model) and candidate["model"] == str(other)
    found = {metric["name"]: metric for metric in candidate["metrics"]}
    assert list(found) == [
        *("latency_ms.p50", "latency_ms.p90", "latency_ms.p99", "throughput_per_s", "peak_memory_bytes"),
        *("bytes", "parameters", "macs", "accuracy", "agreement"),
    ]
    p50 = found["latency_ms.p50"]
    assert p50["ratio"] == pytest.approx(p50["baseline"] / p50["candidate"])
    assert found["accuracy"]["baseline"] == 1.0 and found["accuracy"]["verdict"] == "worse"
    assert found["accuracy"]["test"] == "McNemar, exact" and found["accuracy"]["p_value"] < 0.001
    assert found["macs"]["verdict"] == found["parameters"]["verdict"] == "same"
    measured = outcome.report["measurements"]
    assert all(len(m["latency_ms"]["samples"]) == m["latency_ms"]["n"] for m in measured)
    assert all(m["memory"]["load"] > 1 << 20 and m["peak_memory_bytes"] >= m["memory"]["load"] for m in measured)
    assert all((m["energy_j"] is None) == bool(m["energy_reason"]) for m in measured)
    flipped = candidate["flips"]
    assert len(flipped) == round(64 * (1 - found["agreement"]["candidate"]))
    assert all(flip["before"] == flip["label"] != flip["after"] for flip in flipped)
    assert sum(it["n"] for it in candidate["classes"]) == 64
    assert len({flip["index"] for flip in flipped}) == len(flipped) and max(flip["index"] for flip in flipped) < 64


@pytest.mark.parametrize(
    ("gates", "code", "passed"),
    [
        (("--max-drop", "accuracy=1", "--max-bytes", "1MB", "--max-macs", "100%", "--max-memory", "2GB"), 0, [True] * 4),
        (("--max-drop", "accuracy=0.01",), 1, [False]),
        (("--max-bytes", "1kB", "--min-speedup", "1.0"), 1, [False, None]),
        (("--min-speedup", "1.0"), 3, [None]),
        (("--min-speedup", "0.01"), 0, [True]),
        (("--min-speedup", "100"), 1, [False]),
    ],
)  # fmt: skip
def test_gates_decide_the_exit_code(modelkit, model, other, labelled, gates, code, passed):
    outcome = modelkit("compare", model, other, "--data", labelled, *QUICK, "--json", *gates)
    assert outcome.code == code, outcome.err
    assert sorted(map(str, (gate["passed"] for gate in outcome.report["gates"]))) == sorted(map(str, passed))
    jsonschema.validate(outcome.report, json_schema("report"))


def test_gates_of_a_pyproject_hold(modelkit, model, other, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.modelkit.gates]\nmax-bytes = "1kB"\n')
    assert modelkit("compare", model, other, *QUICK, "-q").code == 1
    assert modelkit("compare", model, other, *QUICK, "-q", "--max-bytes", "1MB").code == 0


def test_twice_the_work_is_seen_even_in_little_time(modelkit, tmp_path):
    short, long = (deep_onnx(tmp_path / f"{n}.onnx", n) for n in (8, 32))
    outcome = modelkit("compare", short, long, "--max-time", "2", "--threads", "1", "--json")
    (candidate,) = outcome.report["comparison"]["candidates"]
    found = {metric["name"]: metric for metric in candidate["metrics"]}
    assert found["latency_ms.p50"]["verdict"] == found["macs"]["verdict"] == "worse"
    assert found["latency_ms.p50"]["ratio"] < 0.6


def test_saved_reports_are_compared_without_torch(modelkit, two_reports):
    outcome = modelkit("compare", *two_reports, "--json", "--max-bytes", "1MB")
    assert outcome.code == 0, outcome.err
    jsonschema.validate(outcome.report, json_schema("report"))
    names = [metric["name"] for metric in outcome.report["comparison"]["candidates"][0]["metrics"]]
    assert {"latency_ms.p50", "bytes", "macs"} <= set(names)
    assert not (HEAVY | {"onnx", "onnxruntime"}) & modules_after("compare", *two_reports, "--json")


def test_reports_of_different_machines_are_said_to_be(modelkit, two_reports):
    document = json.loads(open("new.json").read())
    document["environment"]["cpu"] = "Another CPU"
    open("new.json", "w").write(json.dumps(document))
    outcome = modelkit("compare", *two_reports, "--json", "--min-speedup", "0.5")
    assert outcome.code == 3 and "different machines" in outcome.err
    assert any("Another CPU" in warning for warning in outcome.report["warnings"])
    assert outcome.report["gates"][0]["passed"] is None


def test_a_report_that_names_a_model_stands_for_it(modelkit, model):
    modelkit("quantize", model, "-q", "--report", "q.json")
    outcome = modelkit("compare", model, "q.json", *QUICK, "--json")
    assert outcome.report["comparison"]["candidates"][0]["model"].endswith("m-int8.onnx")


def test_reports_go_where_ci_looks(modelkit, model, other, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    names = [f"r.{extension}" for extension in ("json", "xml", "md", "html")]
    reports = [word for name in names for word in ("--report", name)]
    outcome = modelkit("compare", model, other, *QUICK, "-q", "--max-bytes", "1kB", *reports)
    assert outcome.code == 1
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("before\n# modelkit compare") and "max-bytes 1kB" in summary.replace("\\", "")
    assert "<failure" in (tmp_path / "r.xml").read_text()
    entries = json.loads((tmp_path / "r.smaller-is-better.json").read_text())
    assert all({"name", "unit", "value"} <= set(entry) and entry["value"] >= 0 for entry in entries)
    assert any("latency p50" in entry["name"] and entry["range"].startswith("±") for entry in entries)


def test_bad_input(refused, model, other, labelled, tmp_path, two_reports):
    linear = linear_onnx(tmp_path / "linear.onnx")
    assert "different inputs" in refused("compare", model, linear)
    narrow = linear_onnx(tmp_path / "narrow.onnx", classes=4)
    wide = linear_onnx(tmp_path / "wide.onnx", classes=6)
    np.savez(tmp_path / "d.npz", x=np.zeros((8, 16), np.float32), y=np.zeros(8, np.int64))
    assert "4 classes and" in refused("compare", narrow, wide, "--data", "d.npz", *QUICK)
    assert "--data" in refused("compare", model, other, "--max-drop", "accuracy=0.1")
    assert "--data" in refused("compare", model, other, "--metric", "accuracy")
    assert "beauty" in refused("compare", model, other, "--data", labelled, "--max-drop", "beauty=0.1")
    assert "not measured" in refused("compare", *two_reports, "--max-drop", "accuracy=0.1")
    (tmp_path / "v9.json").write_text(json.dumps({**json.loads(open("old.json").read()), "schema": "modelkit/report-9"}))
    assert "report-9" in refused("compare", "old.json", "v9.json")
    (tmp_path / "cut.json").write_text(open("old.json").read()[:400])
    assert "not whole JSON" in refused("compare", "old.json", "cut.json")
    refused("compare", model)
    refused("compare", model, "nowhere.onnx")
    refused("compare", model, "old.json")
    refused("compare", model, other, "--tolerance", "-1")
    refused("compare", model, other, "--runtime", "abacus")
