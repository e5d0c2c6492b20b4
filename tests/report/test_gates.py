"""Gates: how they are read, and what a comparison says to them."""

import pytest

from modelkit.core.errors import ModelkitError
from modelkit.report.gates import drop_limits, judge, limits_from


def metric(name, baseline, candidate, ratio=None, ci95=None, verdict="same", higher_is_better=None):
    return locals()


METRICS = [
    metric("latency_ms.p50", 3.0, 2.0, 1.5, (1.4, 1.6), "better"),
    metric("bytes", 1000, 400, 0.4),
    metric("macs", 10_000_000, 10_000_000, 1.0),
    metric("peak_memory_bytes", 50_000_000, 40_000_000, 0.8),
    metric("accuracy", 0.914, 0.904, higher_is_better=True),
    metric("perplexity", 10.0, 10.5, higher_is_better=False),
    metric("f1", 0.9, None, higher_is_better=True),
]


def gate(folder, **flags):
    (found,) = judge(limits_from({key.replace("_", "-"): value for key, value in flags.items()}, folder), METRICS, "m.onnx")
    return found["passed"]


@pytest.mark.parametrize(
    ("flags", "passed"),
    [
        ({"min_speedup": "1.3"}, True),
        ({"min_speedup": "1.5"}, None),
        ({"min_speedup": "1.7x"}, False),
        ({"max_bytes": "400"}, True),
        ({"max_bytes": "0.39kB"}, False),
        ({"max_bytes": "1KiB"}, True),
        ({"max_bytes": "40%"}, True),
        ({"max_bytes": "0.3"}, False),
        ({"max_macs": "10M"}, True),
        ({"max_macs": "9.9M"}, False),
        ({"max_memory": "40MB"}, True),
        ({"max_memory": "38MiB"}, False),
        ({"max_drop": ["accuracy=0.01"]}, True),
        ({"max_drop": ["accuracy=0.009"]}, False),
        ({"max_drop": ["perplexity=0.5"]}, True),
        ({"max_drop": ["perplexity=0.4"]}, False),
    ],
)
def test_gates_are_judged(tmp_path, flags, passed):
    assert gate(tmp_path, **flags) is passed


@pytest.mark.parametrize(
    "flags",
    [
        {"min-speedup": "fast"},
        {"min-speedup": "0"},
        {"max-bytes": "-5MB"},
        {"max-bytes": "5 parsecs"},
        {"max-macs": "nan"},
        {"max-drop": ["accuracy"]},
        {"max-drop": ["=0.1"]},
        {"max-drop": ["accuracy=much"]},
        {"max-drop": ["accuracy=inf"]},
        {"max-drop": ["sqnr=1"]},
    ],
)
def test_what_is_no_gate_is_refused(tmp_path, flags):
    with pytest.raises(ModelkitError):
        limits_from(flags, tmp_path)


@pytest.mark.parametrize("flags", [{"max-drop": ["f1=0.1"]}, {"max-drop": ["beauty=0.1"]}])
def test_a_gate_on_what_was_not_measured_is_refused(tmp_path, flags):
    with pytest.raises(ModelkitError, match="was not measured"):
        judge(limits_from(flags, tmp_path), METRICS, None)
    with pytest.raises(ModelkitError, match="latency_ms.p50"):
        judge(limits_from({"min-speedup": "1.2"}, tmp_path), [], None)


PYPROJECT = """
[project]
name = "mine"

[tool.modelkit.gates]
min-speedup = 1.3
max_bytes = "50%"
max-drop = {accuracy = 0.02, perplexity = 0.1}
"""


def test_gates_of_the_nearest_pyproject_hold_and_flags_win(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'no gates here'\n")
    texts = {limit.text for limit in limits_from({}, deep)}
    assert texts == {"min-speedup 1.3", "max-bytes 50%", "max-drop accuracy=0.02", "max-drop perplexity=0.1"}
    texts = {limit.text for limit in limits_from({"min-speedup": "1.1", "max-drop": ["accuracy=0.5"]}, deep)}
    assert texts == {"min-speedup 1.1", "max-bytes 50%", "max-drop accuracy=0.5", "max-drop perplexity=0.1"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[tool.modelkit.gates]\nmin-spedup = 1.2", "min-spedup"),
        ("[tool.modelkit]\ngates = 5", "not a table"),
        ("[tool.modelkit.gates]\nmin-speedup = ", "not valid TOML"),
        ("[tool.modelkit.gates]\nmax-drop = 0.01", "names no metric"),
    ],
)
def test_a_pyproject_with_a_slip_is_refused(tmp_path, content, said):
    (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(ModelkitError, match=said):
        limits_from({}, tmp_path)


def test_drops_of_quantize_are_the_same_gates():
    assert [limit.text for limit in drop_limits({"accuracy": 0.005})] == ["max-drop accuracy=0.005"]
