"""Comparing saved reports."""

import pytest

from modelkit.bench.saved import compare_saved
from modelkit.core.errors import MachineWarning, ModelkitError
from modelkit.report.records import ClassMetric
from tests.report.examples import bench, compare, demo, measurement, model, report


def one(path, milliseconds, accuracy=0.9, **changes):
    found = report("bench", inputs=[model(path)], measurements=[measurement(path, milliseconds, accuracy)])
    found.measurements[0].latency_ms.p50 = milliseconds
    found.measurements[0].latency_ms.ci95 = (milliseconds * 0.99, milliseconds * 1.01)
    for key, value in changes.items():
        setattr(found.environment, key, value)
    return found


def metrics(*reports, tolerance=0.01):
    _, candidates = compare_saved(["old.json", "new.json"], reports, tolerance)
    return {metric["name"]: metric for metric in candidates[0]["metrics"]}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """The examples share one environment object."""
    from tests.report import examples

    original = examples.report

    def copied(*args, **fields):
        found = original(*args, **fields)
        return found.model_copy(update={"environment": found.environment.model_copy()})

    monkeypatch.setattr(examples, "report", copied)
    monkeypatch.setitem(globals(), "report", copied)


def test_a_clear_difference_is_seen_and_a_small_one_is_not_claimed():
    found = metrics(one("a/m.onnx", 4.0), one("b/m.onnx", 2.0))["latency_ms.p50"]
    assert (found["verdict"], found["ratio"]) == ("better", 2.0)
    found = metrics(one("a/m.onnx", 4.0), one("b/m.onnx", 4.1))["latency_ms.p50"]
    assert found["verdict"] == "inconclusive" and found["detectable"] > 0.05


def test_times_of_different_machines_are_not_compared():
    with pytest.warns(MachineWarning, match="old.json and new.json are from different machines .*CPU AMD EPYC 7B12 and Xeon"):
        found = metrics(one("m.onnx", 4.0), one("m.onnx", 1.0, cpu="Xeon"))
    assert found["latency_ms.p50"]["verdict"] == "inconclusive" and found["latency_ms.p50"]["ci95"] is None
    assert found["bytes"]["verdict"] == "same"


def test_other_versions_are_said():
    with pytest.warns(MachineWarning, match="onnxruntime 1.32.0 and 1.33.0"):
        metrics(one("m.onnx", 4.0), one("m.onnx", 1.0, packages={"onnxruntime": "1.33.0"}))


def test_quality_is_compared_without_the_pairs():
    found = metrics(one("m.onnx", 4.0, 0.9), one("m.onnx", 4.0, 0.8))["accuracy"]
    assert found["verdict"] == "worse" and found["difference"] == pytest.approx(-0.1)
    assert found["test"] == "two independent intervals"


def test_models_are_matched_by_setting_and_name():
    old, new = bench(), bench()
    baseline, found = compare_saved(["old.json", "new.json"], [old, new], 0.01)
    assert baseline == "old.json" and len(found) == 6
    for candidate in found:
        assert {m["ratio"] for m in candidate["metrics"] if m["name"] == "bytes"} == {1.0}


def test_a_report_that_made_a_model_is_about_that_model():
    baseline, found = compare_saved(["old.json", "new.json"], [demo(), demo()], 0.01)
    assert baseline == "models/resnet-int8.onnx" and [candidate["model"] for candidate in found] == [baseline]


def test_nothing_in_common_is_refused():
    other = one("m.onnx", 4.0)
    other.measurements[0].threads = 16
    with pytest.raises(ModelkitError, match="no measurement in common"):
        metrics(one("m.onnx", 4.0), other)


def test_other_label_sets_are_refused():
    old, new = compare(), compare()
    found = compare_saved(["old.json", "new.json"], [old, new], 0.01)[1]
    assert {it["label"] for candidate in found for it in candidate["classes"]} == {
        "cat",
        "dog",
        "a class with a name that is long",
        "eel",
    }
    new.comparison.candidates[0].classes = [ClassMetric(label="horse", baseline=0.9, candidate=0.9, n=10)]
    with pytest.raises(ModelkitError, match="different label sets"):
        compare_saved(["old.json", "new.json"], [old, new], 0.01)
