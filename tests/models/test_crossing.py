"""Between the families: the same numbers, the same forms, on the same layers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from modelkit.core.errors import SkippedWarning
from modelkit.core.forms import DynamicGrid, Grid, Quantized
from modelkit.core.model import EdgeGrid, Model, Preprocessing
from modelkit.models.crossing import to_onnx, to_torch
from modelkit.models.onnx.model import OnnxModel
from modelkit.models.recovery import recovered
from modelkit.models.recurrent_lengths import symbolic_recurrent_lengths
from modelkit.models.torch.model import TorchModel
from tests.models.onnx.grids import OLD_RUNTIME
from tests.models.torch.networks import Tied, conv_module, conv_pt2, image, random_form, save_pt2
from tests.zoo_cache import ZooCache

ARCHITECTURES = ("mlp", "resnet", "vit", "gpt2", "lstm_speech")


def outputs(model: Model, feeds: Any) -> list[np.ndarray]:
    values = next(model.observe([feeds], []))
    return [values[name] for name in model.graph.outputs]


def agree(one: Model, other: Model, feeds: Any, tolerance: float = 1e-5) -> None:
    for a, b in zip(outputs(one, feeds), outputs(other, feeds), strict=True):
        assert np.abs(a - b).max() <= tolerance * np.abs(a).max()


def forms(model: Model) -> dict[str, str]:
    layers = (node for node in model.graph.layers() if not node.skip)
    return {node.name: node.parameters["weight"].form for node in layers}


def to_nearest(weight: np.ndarray, bits: int = 8) -> Quantized:
    """Symmetric, per channel, within one bit less than there is (integer kernels of old processors saturate)."""
    top = 2 ** (bits - 2) - 1
    rows = weight.reshape(weight.shape[0], -1)
    scale = (np.abs(rows).max(1, keepdims=True) / top).astype(np.float32)
    return Quantized(np.rint(rows / scale).astype(np.int8).reshape(weight.shape), scale, bits)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_zoo_there_and_back(zoo: ZooCache, tmp_path: Path, name: str) -> None:
    tolerance = 0.02 if OLD_RUNTIME else 1e-5
    model = TorchModel.open(zoo.pt2(name))
    feeds, expected = zoo.arrays(name)
    for node in model.graph.layers():
        if node.kind in ("linear", "conv") and not node.skip:
            activation = DynamicGrid() if node.kind == "linear" else None
            model.set_parameter(node.name, "weight", to_nearest(model.parameter(node.name, "weight")), activation)
    crossed = to_onnx(model)
    assert (crossed.format, crossed.family) == ("onnx", "onnx")
    assert [str(entry) for entry in crossed.graph.inputs] == [str(entry) for entry in model.graph.inputs]
    assert crossed.graph.outputs == model.graph.outputs
    quantized = {layer: form for layer, form in forms(model).items() if form != "dense"}
    assert sorted(form for form in forms(crossed).values() if form != "dense") == sorted(quantized.values())
    agree(model, crossed, feeds, tolerance)
    back = to_torch(crossed)
    agree(model, back, feeds, tolerance)
    assert sorted(form for form in forms(back).values() if form != "dense") == sorted(quantized.values())
    crossed.save(tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx")
    agree(crossed, to_torch(OnnxModel.open(tmp_path / "m.onnx")), feeds, tolerance)


def test_layer_names_are_the_same(zoo: ZooCache) -> None:
    model = TorchModel.open(zoo.pt2("vit"))
    names = [node.name for node in model.graph.layers()]
    assert [node.name for node in to_onnx(model).graph.layers()] == names


def test_static_grids_cross(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    for name in ("conv", "head"):
        model.set_parameter(name, "weight", to_nearest(model.parameter(name, "weight")))
    conv, head = model.graph.by_name["conv"], model.graph.by_name["head"]
    feeds = image(2)
    seen = next(model.observe([feeds], [head.inputs[0]]))[head.inputs[0]]
    grids = {
        "image": EdgeGrid(Grid.over(-3, 3)),
        head.inputs[0]: EdgeGrid(Grid.over(0, float(seen.max()), signed=True), frozenset({"head"})),
        model.graph.outputs[0]: EdgeGrid(Grid.over(-2, 2)),
    }
    model.quantize_edges(grids)
    assert conv.inputs == ("image",)
    crossed = to_onnx(model)
    agree(model, crossed, feeds, 1e-4)
    assert len(crossed._changes.grids) == 3
    back = to_torch(crossed)
    assert sorted(str(entry.grid) for entry in back.grids.values()) == sorted(str(entry.grid) for entry in grids.values())
    agree(model, back, feeds, 1e-4)
    crossed.save(tmp_path / "m.onnx")
    types = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert types.count("QuantizeLinear") == 3
    again = to_torch(OnnxModel.open(tmp_path / "m.onnx"))
    assert len(again.grids) == 3 and set(forms(again).values()) == {"int8 per-channel"}
    agree(model, again, feeds, 1e-4)


def test_few_bits_cross(tmp_path: Path) -> None:
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", nn.Sequential(nn.Linear(64, 8)), torch.randn(2, 64)))
    name = next(node.name for node in model.graph.layers())
    model.set_parameter(name, "weight", random_form((8, 64), 4, signed=False, asymmetric=True, group_size=32))
    feeds = {model.graph.inputs[0].name: np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)}
    crossed = to_onnx(model)
    agree(model, crossed, feeds)
    crossed.save(tmp_path / "m.onnx")
    back = to_torch(OnnxModel.open(tmp_path / "m.onnx"))
    agree(model, back, feeds)


def test_tied_weights_cross(tmp_path: Path) -> None:
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", Tied(), torch.randint(0, 11, (2, 5))))
    table, hidden, last = (node.name for node in model.graph.layers())
    model.set_parameter(last, "weight", to_nearest(model.parameter(last, "weight")))
    feeds = {"tokens": np.arange(10).reshape(2, 5)}
    crossed = to_onnx(model)
    agree(model, crossed, feeds)
    found = [node.parameters["weight"].form for node in crossed.graph.layers()]
    assert found == ["dense", "dense", "int8 per-channel"]


def test_provenance_crosses(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    model.provenance.history.append({"pass": "quantize.rtn"})
    model.provenance.preprocessing = Preprocessing()
    crossed = to_onnx(model)
    assert (crossed.provenance.history, crossed.provenance.preprocessing) == ([{"pass": "quantize.rtn"}], Preprocessing())
    assert to_torch(crossed).provenance.history == model.provenance.history
    assert to_onnx(crossed) is crossed and to_torch(model) is model


def test_what_is_folded_there_is_told(zoo: ZooCache) -> None:
    """Positions are constants to the exporter, so that their embedding is no layer in ONNX."""
    model = TorchModel.open(zoo.pt2("bert"))
    name = next(node.name for node in model.graph.layers() if "position" in node.name)
    model.set_parameter(name, "weight", to_nearest(model.parameter(name, "weight")))
    with pytest.warns(SkippedWarning, match="position"):
        crossed = to_onnx(model)
    agree(model, crossed, zoo.arrays("bert")[0])


OPTIONS: tuple[dict[str, Any], ...] = (
    {"bits": 8},
    {"bits": 4, "group_size": 8},
    {"bits": 4, "signed": False, "asymmetric": True, "group_size": 5},
    {"bits": 8, "per_tensor": True},
    {"bits": 8, "signed": False, "asymmetric": True, "axis": 1},
)


@pytest.mark.parametrize("options", OPTIONS)
def test_recovered_forms_decode_to_the_weight(options: dict[str, Any]) -> None:
    form = random_form((6, 24), **options)
    weight = form.decode()
    found = recovered(weight, [np.zeros(3, np.float32), form.scale.reshape(-1)], str(form), form.axis)
    assert found is not None
    np.testing.assert_array_equal(found.decode(), weight)
    assert recovered(weight + np.float32(0.001), [form.scale], str(form), form.axis) is None


def test_torchscript_crosses_with_its_names(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(conv_module()), tmp_path / "m.pt")
    model = TorchModel.open(tmp_path / "m.pt", bindings={"image": ("float32", (1, 3, 8, 8))})
    crossed = to_onnx(model)
    assert [entry.name for entry in crossed.graph.inputs] == ["image"]
    agree(model, crossed, image())


class Shared(nn.Module):
    """An output that is returned twice, and an input that is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, linear: torch.Tensor, fc: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.fc(linear) + fc
        return y, fc, torch.relu(y)


def test_interface_with_clashing_names(tmp_path: Path) -> None:
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", Shared(), torch.randn(2, 4), torch.randn(2, 4)))
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    crossed = to_onnx(model)
    assert [entry.name for entry in crossed.graph.inputs] == ["linear", "fc"]
    agree(model, crossed, {"linear": x, "fc": x * 2})


class Optional(nn.Module):
    """Takes and returns things that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, times: int = 2) -> tuple[Any, ...]:
        return None, self.fc(x) * times, 3


def test_constants_among_inputs_and_outputs(tmp_path: Path) -> None:
    program = torch.export.export(
        Optional(), (torch.randn(2, 4), None, 3), dynamic_shapes=({0: torch.export.Dim("b")}, None, None)
    )
    torch.export.save(program, tmp_path / "m.pt2")
    model = TorchModel.open(tmp_path / "m.pt2")
    assert [entry.name for entry in model.graph.inputs] == ["x"] and len(model.graph.outputs) == 1
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    agree(model, to_onnx(model), {"x": x})
    model.save(tmp_path / "out.pt2")
    nothing, _, three = torch.export.load(tmp_path / "out.pt2").module()(torch.from_numpy(x), None, 3)
    assert (nothing, three) == (None, 3)


class _Rearranged(nn.Module):
    """Channels last, as ConvNeXt does before its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


def test_signed_grids_before_a_transposition_run(tmp_path: Path) -> None:
    """ONNX Runtime 1.32 moves the grid behind the Transpose; from opset 21 on it then refuses its own model."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", _Rearranged(), x))
    (conv,) = (node for node in model.graph.nodes if node.kind == "conv")
    model.set_parameter(conv.name, "weight", to_nearest(model.parameter(conv.name, "weight")))
    model.quantize_edges({edge: EdgeGrid(Grid.over(-3, 3, signed=True)) for edge in ("x", conv.outputs[0])})
    agree(model, to_onnx(model), {"x": x.numpy()}, 0.02)  # A sum between two steps may go to either.


@pytest.mark.parametrize("name", ["images:0", "input.1", "0", "class"])
def test_inputs_whose_names_torch_can_not_have(name: str) -> None:
    """Old exporters number them, TensorFlow's put the output's number behind them: data is found by either name."""
    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> g (float[N, 8] x) => (float[N, 4] y) { y = MatMul(x, w) }'
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    proto.graph.input[0].name = proto.graph.node[0].input[0] = name
    model = OnnxModel.from_proto(proto, Path("m.onnx"), Path())
    x = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    crossed = to_torch(model)
    agree(model, crossed, {name: x})
    (given,) = crossed.graph.inputs
    assert given.name.isidentifier()
    np.testing.assert_allclose(outputs(crossed, {given.name: x})[0], x @ weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        crossed.segment([], crossed.graph.outputs)({name: x})[crossed.graph.outputs[0]], x @ weight, rtol=1e-4, atol=1e-6
    )


class _Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell, self.head = cell(8, 16, bidirectional=True), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0].unflatten(2, (2, 16)).transpose(1, 2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_lengths_of_sequences_stay_open(tmp_path: Path, cell: type[nn.RNNBase]) -> None:
    """torch's exporter decomposes the program first, and would unroll the operator for the length that it was traced with. (RNN,
    which ONNX's exporter does not know, it still does.)"""
    with symbolic_recurrent_lengths(), torch.no_grad():
        dims = {0: torch.export.Dim("length", min=2, max=512)}
        program = torch.export.export(_Recurrent(cell).eval(), (torch.randn(28, 1, 8),), dynamic_shapes=(dims,), strict=False)
    torch.export.save(program, tmp_path / "m.pt2")
    model = TorchModel.open(tmp_path / "m.pt2")
    crossed = to_onnx(model)
    for length in (5, 28, 60) if cell is not nn.RNN else (28,):
        agree(model, crossed, {"x": np.random.default_rng(length).standard_normal((length, 1, 8)).astype(np.float32)}, 1e-5)


def test_sizes_that_the_user_states_are_those_it_is_traced_with(tmp_path: Path) -> None:
    """The height must be 48, which the file does not say."""
    text = """<ir_version: 9, opset_import: ["" : 17]> g (float[N, 3, H, W] x) => (float[N, 3, W, 4] y) {
        t = Transpose<perm = [0, 1, 3, 2]>(x)
        y = MatMul(t, w)
    }"""
    proto = onnx.parser.parse_model(text)
    weight = np.random.default_rng(0).standard_normal((48, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    model = OnnxModel.open(tmp_path / "m.onnx", {"x": ("float32", (1, 3, 48, 100))})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*is assumed.*")
        warnings.filterwarnings("ignore", message=".*fixed.*")
        crossed = to_torch(model)
    agree(model, crossed, {"x": np.random.default_rng(1).standard_normal((2, 3, 48, 64)).astype(np.float32)})


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions_without_a_bias(tmp_path: Path, axes: int) -> None:
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    x = torch.randn(2, 3, *[6] * axes)
    module = nn.Sequential(convolution(3, 8, 3, bias=False), convolution(8, 4, 1))
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", module, x))
    agree(model, to_onnx(model), {model.graph.inputs[0].name: x.numpy()})
