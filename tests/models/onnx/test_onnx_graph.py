"""What the neutral graph says of the architectures' ONNX exports."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from modelkit.analysis.macs import total_macs
from modelkit.core.forms import Dense, DynamicGrid
from modelkit.models.onnx.model import OnnxModel
from tests.architectures import ARCHITECTURES
from tests.models.onnx.grids import outputs, quantized, relative_error
from tests.zoo_cache import ZooCache

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)

# Layers by kind, and multiply-accumulates of one sample, counted by hand or by torch's FlopCounterMode.
FACTS = {
    "mlp": ({"linear": 3}, 64 * 128 + 128 * 64 + 64 * 10),
    "vgg": ({"conv": 6, "linear": 2}, None),
    "resnet": ({"conv": 11, "linear": 1}, None),
    "mobilenet": ({"conv": 14, "linear": 1}, None),
    "densenet": ({"conv": 14, "linear": 1}, None),
    "vit": ({"conv": 1, "linear": 13}, None),
    "bert": ({"embedding": 2, "linear": 13}, None),
    "gpt2": ({"embedding": 1, "linear": 9}, None),
    "llama": ({"embedding": 1, "linear": 15}, None),
    "dlrm": ({"embedding": 4, "linear": 4}, None),
    "whisper": ({"conv": 2, "embedding": 1, "linear": 33}, None),
    "clip": ({"conv": 1, "embedding": 1, "linear": 26}, None),
    "policy_value": ({"conv": 7, "linear": 3}, None),
    "lstm_speech": ({"conv": 1, "linear": 1, "recurrent": 2}, None),
}


@every_architecture
def test_layers_names_and_shapes(name: str, zoo: ZooCache) -> None:
    graph = OnnxModel.open(zoo.onnx(name)).graph
    layers, macs = FACTS[name]
    assert Counter(node.kind for node in graph.layers()) == layers
    assert total_macs(graph) == macs if macs else total_macs(graph)
    for edge in graph.edges.values():
        assert edge.shape is not None or edge.dtype == "sequence", edge
    for node in graph.layers():
        assert node.skip is None or node.kind == "recurrent"
        if node.kind in ("linear", "conv", "embedding"):
            assert not node.name.startswith("node_"), "named by its module"


@every_architecture
def test_macs_are_those_that_torch_counts(name: str, zoo: ZooCache) -> None:
    if name in ("lstm_speech", "dlrm"):
        pytest.skip("torch counts neither LSTM nor this export's interaction alike")
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    architecture = ARCHITECTURES[name]
    example = {key: value[:1] for key, value in architecture.example().items()}
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        architecture.build()(*example.values())
    counted = total_macs(OnnxModel.open(zoo.onnx(name)).graph)
    assert counted is not None
    assert counted == pytest.approx(counter.get_total_flops() / 2, rel=0.01)


@every_architecture
@pytest.mark.parametrize("external_data", [False, True], ids=["one-file", "external-data"])
def test_runs_as_torch_does(name: str, external_data: bool, zoo: ZooCache, tmp_path: Path) -> None:
    inputs, expected = zoo.arrays(name)
    model = OnnxModel.open(zoo.onnx(name, external_data))
    model.save(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").exists() == external_data
    for actual in (outputs(model, inputs), outputs(OnnxModel.open(tmp_path / "m.onnx"), inputs)):
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=0, atol=1e-4)


@every_architecture
@pytest.mark.parametrize("form", ["int8", "int4 g16", "dynamic"])
def test_quantised_layers_compute_with_their_decoded_weights(name: str, form: str, zoo: ZooCache, tmp_path: Path) -> None:
    inputs, _ = zoo.arrays(name)
    model = OnnxModel.open(zoo.onnx(name))
    exact = model.copy()
    for node in model.graph.layers():
        if node.skip or (form == "dynamic" and node.kind != "linear"):
            continue
        weight = model.parameter(node.name, "weight")
        axis = 1 if node.attributes.get("transposed") else 0
        chosen = quantized(weight, 4, 16, axis=axis) if form == "int4 g16" else quantized(weight, 8, axis=axis)
        model.set_parameter(node.name, "weight", chosen, DynamicGrid() if form == "dynamic" else None)
        exact.set_parameter(node.name, "weight", Dense(chosen.decode()))
    assert relative_error(outputs(model, inputs), outputs(exact, inputs)) < (0.08 if form == "dynamic" else 1e-5)
    model.save(tmp_path / "m.onnx")
    again = OnnxModel.open(tmp_path / "m.onnx")
    assert relative_error(outputs(again, inputs), outputs(model, inputs)) == 0
    assert total_macs(again.graph) == total_macs(model.graph)
    for node in model.graph.layers():
        shown = again.graph.by_name[node.name]
        assert (shown.kind, shown.inputs, shown.outputs) == (node.kind, node.inputs, node.outputs)
        assert {r: (p.shape, p.form) for r, p in shown.parameters.items()} == {
            r: (p.shape, p.form) for r, p in node.parameters.items()
        }
        for role in node.parameters:
            np.testing.assert_allclose(again.parameter(node.name, role), model.parameter(node.name, role), atol=1e-7)
