"""The report as JSON: the published schema, the golden document, reading back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from modelkit.core.errors import ModelkitError
from modelkit.report import Report, read_report
from modelkit.report.json_text import to_json
from modelkit.report.schema import SCHEMAS, json_schema
from tests.report.examples import EXAMPLES, compare, demo, pass_record, report

GOLDEN = Path(__file__).parent / "golden" / "compare.json"
KEYS = "schema command modelkit seconds warnings environment inputs output passes measurements comparison gates".split()


@pytest.mark.parametrize("name", EXAMPLES)
def test_reports_follow_the_published_schema_and_come_back_equal(name):
    original = EXAMPLES[name]()
    text = to_json(original)
    jsonschema.Draft202012Validator(json_schema("report")).validate(json.loads(text))
    assert read_report(text, "r.json") == original


def test_golden_report():
    golden = json.loads(GOLDEN.read_text())
    jsonschema.Draft202012Validator(json_schema("report")).validate(golden)
    assert json.loads(to_json(compare())) == golden
    assert read_report(GOLDEN.read_bytes(), "golden").document() == golden


def test_reports_written_before_keys_were_added_are_still_reports():
    document = demo().document()
    for measured in document["measurements"]:
        for key in ("energy_reason", "memory", "starts", "clock_mhz", "profile"):
            del measured[key]
    jsonschema.Draft202012Validator(json_schema("report")).validate(document)
    assert read_report(json.dumps(document), "r.json") == demo()


def test_every_key_of_the_contract_is_there():
    document = json.loads(to_json(demo()))
    assert list(document) == KEYS
    assert json_schema("report")["required"] == KEYS
    assert set(document["inputs"][0]) == {"path", "format", "sha256", "bytes", "parameters", "macs", "layers", "history"}
    layer = {"name", "kind", "shape", "parameters", "macs", "bytes", "sparsity", "form"}
    assert set(document["inputs"][0]["layers"][0]) == layer
    assert set(document["passes"][0]) == {"pass", "options", "seconds", "layers", "speedup"}
    changed = {"name", "kind", "shape", "form", "bytes_before", "bytes_after", "error", "skipped"}
    assert set(document["passes"][0]["layers"][0]) == changed
    measured = {"model", "runtime", "device", "threads", "batch_size", "latency_ms", "throughput_per_s", "peak_memory_bytes"}
    assert set(document["measurements"][0]) == measured | {
        *("energy_j", "energy_reason", "quality", "memory", "starts", "clock_mhz", "profile")
    }
    latency = {"p50", "p90", "p99", "mean", "min", "ci95", "n", "samples", "quantiles"}
    assert set(document["measurements"][0]["latency_ms"]) == latency
    assert set(document["measurements"][0]["quality"]["accuracy"]) == {"value", "ci95", "n"}
    assert set(json.loads(to_json(EXAMPLES["passes"]()))) == {*KEYS, "available"}
    assert set(json.loads(to_json(EXAMPLES["doctor"]()))) == {*KEYS, "advice"}


def test_numbers_that_json_has_no_word_for_are_null():
    record = pass_record(2)
    record.options["limit"] = [float("inf")]
    dumped = record.model_dump(by_alias=True)
    dumped["layers"][1]["error"] = float("nan")
    document = json.loads(to_json(report("quantize", passes=[dumped])))
    assert document["passes"][0]["layers"][1]["error"] is None
    assert document["passes"][0]["options"]["limit"] == [None]


def test_keys_of_a_later_version_are_kept():
    document = {**demo().document(), "weather": "fine"}
    assert read_report(json.dumps(document), "r").document()["weather"] == "fine"


def _without(key: str) -> str:
    return json.dumps({k: v for k, v in demo().document().items() if k != key})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "r.json is empty"),
        (" \n", "r.json is empty"),
        ("hello", "not whole JSON"),
        (to_json(demo())[:500], "not whole JSON"),
        (b"\xff\xfe\x00", "not whole JSON"),
        ("[" * 100_000, "not whole JSON"),
        ("[1]", "not a modelkit report"),
        ('{"schema": 1}', "not a modelkit report"),
        ('{"schema": "modelkit/report-2"}', "modelkit/report-2, and this modelkit reads modelkit/report-1"),
        ('{"schema": "modelkit/report-1"}', "not a whole report: command"),
        (_without("passes"), "not a whole report: passes"),
        (json.dumps({**demo().document(), "seconds": "long"}), "seconds"),
    ],
)
def test_what_is_no_report_is_refused(content, message):
    with pytest.raises(ModelkitError, match=message):
        read_report(content, "r.json")


@pytest.mark.parametrize("which", SCHEMAS)
def test_schemas_are_schemas(which):
    jsonschema.Draft202012Validator.check_schema(json_schema(which))
    with pytest.raises(ModelkitError, match="no schema 'model'"):
        json_schema("model")


def test_recipe_schema():
    validator = jsonschema.Draft202012Validator(json_schema("recipe"))
    validator.validate({"passes": [{"pass": "quantize", "bits": 4, "ignore": ["head"]}], "calib": "c.npz"})
    for wrong in ({}, {"passes": []}, {"passes": [{"bits": 4}]}, {"passes": [{"pass": "quantize"}], "pases": 1}):
        assert not validator.is_valid(wrong)


def test_importing_reports_is_light():
    code = "import sys, modelkit.report; print([m for m in ('torch', 'onnx', 'numpy', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_report_is_built_from_plain_values():
    assert Report.model_validate(json.loads(to_json(demo()))) == demo()
