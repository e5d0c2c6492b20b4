"""Every odd model opens, or is refused with a reason; saved unchanged it computes the same; its layers can be quantised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelkit.analysis.macs import total_macs
from modelkit.core.errors import ModelkitError, SkippedWarning
from modelkit.core.forms import Dense
from modelkit.models.onnx.model import OnnxModel
from modelkit.models.opening import open_model
from tests.models.onnx.grids import one_thread, outputs, outputs_of_file, quantized, relative_error
from tests.odd_onnx import CANNOT_RUN, ODD, write

pytestmark = pytest.mark.filterwarnings("ignore:.*(leaves its|is assumed)")
runnable = pytest.mark.parametrize("name", [name for name in ODD if name not in CANNOT_RUN])
CRASHES_ONLY_AS_WRITTEN = "layer_norm_with_empty_bias"


def opened(name: str, tmp_path: Path) -> tuple[OnnxModel, Path, dict[str, np.ndarray]]:
    proto, feeds = ODD[name]()
    path = tmp_path / "model.onnx"
    write(proto, path)
    return OnnxModel.open(path), path, feeds


@pytest.mark.parametrize("name", ODD)
def test_shows_a_graph_with_parameters_that_can_be_read(name: str, tmp_path: Path) -> None:
    model, _, _ = opened(name, tmp_path)
    graph = model.graph
    assert len(graph.by_name) == len(graph.nodes), "names are unique"
    for node in graph.nodes:
        for edge in (*node.inputs, *node.outputs):
            assert edge in graph.edges
        for role, parameter in node.parameters.items():
            assert model.parameter(node.name, role).shape == parameter.shape
        if node.kind in ("recurrent", "control"):
            assert node.skip


@runnable
def test_saved_unchanged_computes_the_same(name: str, tmp_path: Path) -> None:
    model, path, feeds = opened(name, tmp_path)
    session = one_thread(path)
    assert [spec.name for spec in model.graph.inputs] == [value.name for value in session.get_inputs()]
    assert list(model.graph.outputs) == [value.name for value in session.get_outputs()]
    (tmp_path / "out").mkdir()
    model.save(tmp_path / "out" / "m.onnx")
    expected = session.run(None, feeds)
    for actual in (outputs_of_file(tmp_path / "out" / "m.onnx", feeds), outputs(model, feeds)):
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == e.dtype
            np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5)
    again = OnnxModel.open(tmp_path / "out" / "m.onnx")
    assert [(node.name, node.kind) for node in again.graph.nodes] == [(node.name, node.kind) for node in model.graph.nodes]


def test_an_empty_last_input_no_longer_crashes_the_runtime(tmp_path: Path) -> None:
    model, _, feeds = opened(CRASHES_ONLY_AS_WRITTEN, tmp_path)
    assert all(np.isfinite(output).all() for output in outputs(model, feeds))


@runnable
@pytest.mark.parametrize("bits", [8, 4])
def test_layers_can_be_quantised_or_say_why_not(name: str, bits: int, tmp_path: Path) -> None:
    model, _, feeds = opened(name, tmp_path)
    exact = model.copy()
    for node in model.graph.layers():
        if "weight" not in node.parameters:
            assert node.skip
            continue
        form = quantized(model.parameter(node.name, "weight"), bits, 16, axis=1 if node.attributes.get("transposed") else 0)
        if model.can_lower(node.name, form) is None:
            model.set_parameter(node.name, "weight", form)
            exact.set_parameter(node.name, "weight", Dense(form.decode()))
        else:
            with pytest.raises(ModelkitError):
                model.set_parameter(node.name, "weight", form)
    assert relative_error(outputs(model, feeds), outputs(exact, feeds)) < 1e-5
    model.save(tmp_path / "quantised.onnx")
    again = OnnxModel.open(tmp_path / "quantised.onnx")
    assert [node.name for node in again.graph.layers()] == [node.name for node in model.graph.layers()]


@pytest.mark.parametrize("name", ["matmul_inside_if", "matmul_inside_loop", "matmul_inside_scan"])
def test_layers_hidden_in_control_flow_are_told(name: str, tmp_path: Path) -> None:
    model, path, _ = opened(name, tmp_path)
    assert total_macs(model.graph) is None
    with pytest.warns(SkippedWarning, match="layers inside control flow are not seen"):
        open_model(path)
