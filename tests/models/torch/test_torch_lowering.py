"""Weight forms and grids in torch programs: what runs is the decoded weight, what is stored has its bits."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Dense, DynamicGrid, Grid, Quantized
from modelkit.core.model import EdgeGrid, Preprocessing
from modelkit.models.torch.model import TorchModel
from modelkit.models.torch.packing import pack, unpack
from tests.models.torch.networks import Tied, conv_pt2, image, random_form, save_pt2

LAYERS = {
    "linear": (lambda: nn.Linear(20, 6), (3, 20)),
    "linear of three dimensions": (lambda: nn.Linear(20, 6, bias=False), (2, 5, 20)),
    "conv": (lambda: nn.Conv2d(4, 6, 3), (2, 4, 7, 7)),
    "depthwise conv": (lambda: nn.Conv2d(4, 8, 3, groups=4), (2, 4, 7, 7)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2), (2, 4, 9)),
    "transposed conv": (lambda: nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 5)),
    "embedding": (lambda: nn.Embedding(11, 20), (2, 5)),
    "embedding bag": (lambda: nn.EmbeddingBag(11, 20, mode="sum"), (2, 5)),
}
FORMS = {
    "int8": {"bits": 8},
    "int8 per-tensor": {"bits": 8, "per_tensor": True},
    "uint8 asymmetric": {"bits": 8, "signed": False, "asymmetric": True},
    "int8 groups": {"bits": 8, "group_size": 7},
    "int5": {"bits": 5},
    "int4 groups": {"bits": 4, "group_size": 10},
    "uint4 asymmetric groups": {"bits": 4, "signed": False, "asymmetric": True, "group_size": 8},
    "int3": {"bits": 3, "asymmetric": True},
    "int2 per-tensor": {"bits": 2, "per_tensor": True},
    "int6 groups": {"bits": 6, "group_size": 9},
    "int7": {"bits": 7},
    "int1": {"bits": 1, "signed": False},
}


def opened(tmp_path: Path, kind: str, dtype: torch.dtype = torch.float32) -> tuple[TorchModel, dict[str, np.ndarray]]:
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    x = torch.randint(0, 11, shape) if "embedding" in kind else torch.randn(shape).to(dtype)
    path = save_pt2(tmp_path / "m.pt2", nn.Sequential(make()).to(dtype), x, dynamic="bag" not in kind)
    return TorchModel.open(path), {"input": x.float().numpy().astype("float32") if x.is_floating_point() else x.numpy()}


def layer(model: TorchModel) -> str:
    return next(node.name for node in model.graph.layers())


def output(model: TorchModel, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return next(model.observe([feeds], []))[model.graph.outputs[0]]


@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 70))
def test_packing_keeps_every_code(bits: int, rows: int, columns: int) -> None:
    codes = np.random.default_rng(bits * columns).integers(0, 2**bits, (rows, columns))
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8 and packed.shape[1] * 8 < columns * bits + 8 * bits
    np.testing.assert_array_equal(unpack(packed, bits, columns), codes)


THOROUGH = ("linear", "embedding")  # The others see each layout of codes once.
SOME = ("int8", "int8 groups", "uint4 asymmetric groups")


@pytest.mark.parametrize(("kind", "form"), [(k, f) for k in LAYERS for f in FORMS if k in THOROUGH or f in SOME])
def test_lowered_runs_as_decoded_and_is_found_again(tmp_path: Path, kind: str, form: str) -> None:
    model, feeds = opened(tmp_path, kind)
    feeds = {model.graph.inputs[0].name: feeds["input"]}
    name = layer(model)
    quantized = random_form(model.parameter(name, "weight").shape, axis=1 if kind == "transposed conv" else 0, **FORMS[form])
    dense = model.copy()
    model.set_parameter(name, "weight", quantized)
    dense.set_parameter(name, "weight", Dense(quantized.decode()))
    np.testing.assert_array_equal(model.parameter(name, "weight"), quantized.decode())
    expected = output(dense, feeds)
    np.testing.assert_array_equal(output(model, feeds), expected)

    model.save(tmp_path / "out.pt2")
    loaded = torch.export.load(tmp_path / "out.pt2")
    stored = sum(tensor.nbytes for name, tensor in loaded.state_dict.items() if not name.endswith("bias"))
    padding = 8 * quantized.rows().shape[0] * quantized.scale.shape[1] + 16
    assert stored <= quantized.nbytes + (0 if quantized.zero_point is None else quantized.zero_point.size) + padding
    again = TorchModel.open(tmp_path / "out.pt2")
    parameter = again.graph.by_name[name].parameters["weight"]
    assert (parameter.form, parameter.shape) == (str(quantized), quantized.shape)
    np.testing.assert_array_equal(output(again, feeds), expected)
    assert [node.name for node in again.graph.nodes] == [node.name for node in model.graph.nodes]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["linear", "conv", "embedding"])
def test_half_precision(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    make, shape = LAYERS[kind]
    x = torch.randint(0, 11, shape) if kind == "embedding" else torch.randn(shape).to(dtype)
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", nn.Sequential(make()).to(dtype), x))
    array = x.view(torch.int16).numpy() if dtype is torch.bfloat16 and kind != "embedding" else x.numpy()
    if array.dtype == np.int16:
        import ml_dtypes

        array = array.view(ml_dtypes.bfloat16)
    name, feeds = layer(model), {model.graph.inputs[0].name: array}
    weight = model.parameter(name, "weight")
    quantized = random_form(weight.shape, 4, dtype=weight.dtype.name)
    dense = model.copy()
    dense.set_parameter(name, "weight", Dense(quantized.decode()))
    model.set_parameter(name, "weight", quantized)
    edge = model.graph.inputs[0].name if kind != "embedding" else model.graph.outputs[0]
    for changed in (model, dense):
        changed.quantize_edges({edge: EdgeGrid(Grid.over(-2, 3))})
    np.testing.assert_array_equal(output(model, feeds), output(dense, feeds))
    model.save(tmp_path / "out.pt2")
    again = TorchModel.open(tmp_path / "out.pt2")
    assert dict(again.grids) == dict(model.grids)
    np.testing.assert_array_equal(output(again, feeds), output(model, feeds))


@pytest.mark.parametrize("signed", [False, True])
def test_grid_equals_its_definition(tmp_path: Path, signed: bool) -> None:
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", nn.Sequential(nn.Linear(20, 6)), torch.randn(3, 20)))
    name, edge = layer(model), model.graph.inputs[0].name
    grid = Grid.over(-1.3, 2.1, signed)
    halves = (np.arange(-140, 140) + 0.5).astype(np.float32) * np.float32(grid.scale)
    x = np.concatenate([halves, RNG_NORMAL]).reshape(-1, 20)
    raw = output(model, {edge: grid.fake_quantize(x)})
    model.quantize_edges({edge: EdgeGrid(grid)})
    np.testing.assert_array_equal(output(model, {edge: x}), raw)
    np.testing.assert_array_equal(next(model.observe([{edge: x}], [edge]))[edge], x)  # The raw value is observed.
    assert name in model.graph.by_name


RNG_NORMAL = np.random.default_rng(1).standard_normal(200).astype(np.float32)


def test_grid_for_some_readers_and_on_outputs(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    feeds, grid = image(), Grid.over(-0.5, 0.5)
    result = model.graph.outputs[0]
    plain = output(model, feeds)
    some = model.copy()
    some.quantize_edges({"image": EdgeGrid(grid, frozenset({"head"}))})  # head does not read it
    np.testing.assert_array_equal(output(some, feeds), plain)
    model.quantize_edges({result: EdgeGrid(grid)})
    np.testing.assert_array_equal(output(model, feeds), grid.fake_quantize(plain))
    model.save(tmp_path / "out.pt2")
    again = TorchModel.open(tmp_path / "out.pt2")
    assert dict(again.grids) == {result: EdgeGrid(grid)}
    np.testing.assert_array_equal(output(again, feeds), grid.fake_quantize(plain))
    with pytest.raises(ModelkitError, match="not a float tensor"):
        model.quantize_edges({"nothing": EdgeGrid(grid)})


def dynamic_by_definition(x: np.ndarray) -> np.ndarray:
    """ONNX DynamicQuantizeLinear and its inverse."""
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255)) or np.float32(1)
    zero = np.rint(np.clip(-low / scale, 0, 255))
    return ((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)


def test_dynamic_grid(tmp_path: Path) -> None:
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", nn.Sequential(nn.Linear(20, 6)), torch.randn(3, 20)))
    name, edge = layer(model), model.graph.inputs[0].name
    form = random_form((6, 20), 8)
    model.set_parameter(name, "weight", form)
    weight_only = model.copy()
    model.set_parameter(name, "weight", form, DynamicGrid())
    for x in (RNG_NORMAL.reshape(10, 20), np.zeros((2, 20), np.float32), np.abs(RNG_NORMAL).reshape(10, 20)):
        np.testing.assert_array_equal(output(model, {edge: x}), output(weight_only, {edge: dynamic_by_definition(x)}))
    model.save(tmp_path / "out.pt2")
    again = TorchModel.open(tmp_path / "out.pt2")
    assert again.forms()[name, "weight"][1] == DynamicGrid()
    np.testing.assert_array_equal(output(again, {edge: x}), output(model, {edge: x}))
    assert "linear" in str(model.can_lower("0", Dense(np.empty(0)), DynamicGrid()) or "linear")


def test_integer_bias_and_new_bias(tmp_path: Path) -> None:
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", nn.Sequential(nn.Linear(20, 6, bias=False)), torch.randn(3, 20)))
    name, edge = layer(model), model.graph.inputs[0].name
    x = RNG_NORMAL.reshape(10, 20)
    plain = output(model, {edge: x})
    assert model.parameter(name, "bias") is None
    bias = Quantized(np.array([-70000, 1, 2, 3, 4, 70001], np.int32), np.full((6, 1), 1e-4, np.float32), 32)
    model.set_parameter(name, "bias", bias)
    np.testing.assert_allclose(output(model, {edge: x}), plain + bias.decode(), rtol=1e-6, atol=1e-6)
    model.save(tmp_path / "out.pt2")
    again = TorchModel.open(tmp_path / "out.pt2")
    np.testing.assert_array_equal(again.forms()[name, "bias"][0].codes, bias.codes)
    np.testing.assert_array_equal(output(again, {edge: x}), output(model, {edge: x}))


def test_folding_a_batch_norm(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    plain = output(model, image())
    norm = model.graph.by_name["bn"]
    assert (norm.kind, norm.function) == ("norm", "batch")
    weight, bias, mean, variance = (model.parameter("bn", role) for role in ("weight", "bias", "mean", "variance"))
    gain = weight / np.sqrt(variance + norm.attributes["epsilon"])
    folded = model.copy()
    folded.set_parameter("conv", "weight", Dense(model.parameter("conv", "weight") * gain[:, None, None, None]))
    folded.set_parameter("conv", "bias", Dense((model.parameter("conv", "bias") - mean) * gain + bias))
    folded.remove("bn")
    assert "bn" not in folded.graph.by_name and "bn" in model.graph.by_name
    np.testing.assert_allclose(output(folded, image()), plain, rtol=1e-5, atol=1e-6)
    folded.save(tmp_path / "out.pt2")
    loaded = torch.export.load(tmp_path / "out.pt2")
    assert set(loaded.state_dict) == {"conv.weight", "conv.bias", "head.weight", "head.bias"}
    with pytest.raises(ModelkitError):
        folded.remove("no such node")


def test_the_graph_is_built_again_only_for_what_it_shows(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    graph, plain = model.graph, output(model, image())
    model.set_parameter("conv", "weight", Dense(2 * model.parameter("conv", "weight")))
    assert model.graph is graph and not np.allclose(output(model, image()), plain)
    copied = model.copy()
    np.testing.assert_array_equal(output(copied, image()), output(model, image()))
    copied.set_parameter("conv", "weight", Dense(model.parameter("conv", "weight") / 2))
    np.testing.assert_array_equal(output(copied, image()), plain)
    model.set_parameter("conv", "weight", random_form((6, 3, 3, 3), 4))
    assert model.graph is not graph and model.graph.by_name["conv"].parameters["weight"].form == "int4 per-channel"


def test_tied_weights(tmp_path: Path) -> None:
    path = save_pt2(tmp_path / "m.pt2", Tied(), torch.randint(0, 11, (2, 5)))
    model = TorchModel.open(path)
    table, hidden, last = (node.name for node in model.graph.layers())
    feeds = {"tokens": np.arange(10).reshape(2, 5)}
    form = random_form((11, 8), 4)
    own, shared = model.copy(), model.copy()
    own.set_parameter(last, "weight", form)
    np.testing.assert_array_equal(own.parameter(table, "weight"), model.parameter(table, "weight"))
    for name in (table, last):
        shared.set_parameter(name, "weight", form)
    sizes = []
    for changed, file in ((own, "own.pt2"), (shared, "shared.pt2")):
        changed.save(tmp_path / file)
        again = TorchModel.open(tmp_path / file)
        np.testing.assert_array_equal(output(again, feeds), output(changed, feeds))
        assert [node.name for node in again.graph.layers()] == [table, hidden, last]
        assert again.graph.by_name[last].parameters["weight"].form == "int4 per-channel"
        stored = [again.graph.by_name[name].parameters["weight"].stored for name in (table, last)]
        assert (stored[0] == stored[1]) == (changed is shared)
        sizes.append(sum(tensor.nbytes for tensor in torch.export.load(tmp_path / file).state_dict.values()))
    assert sizes[1] == sizes[0] - 11 * 8 * 4


def test_file_needs_torch_only_and_can_be_trained(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    model.set_parameter("conv", "weight", random_form((6, 3, 3, 3), 4, group_size=9))
    model.set_parameter("head", "weight", random_form((4, 6), 8), DynamicGrid())
    model.quantize_edges({"image": EdgeGrid(Grid.over(-2, 2))})
    expected = output(model, image(5))
    model.save(tmp_path / "out.pt2")
    np.savez(tmp_path / "x.npz", x=image(5)["image"], y=expected)
    script = """
import sys, numpy, torch
sys.modules["modelkit"] = None
stored = numpy.load("x.npz")
module = torch.export.load("out.pt2").module()
y = module(torch.from_numpy(stored["x"]))
numpy.testing.assert_array_equal(y.detach().numpy(), stored["y"])
trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
assert trained == {"conv.bias", "bn.weight", "bn.bias", "head.bias"}, trained
y.sum().backward()
assert module.head.bias.grad is not None
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, check=True, timeout=120)


def test_provenance_travels_and_a_hostile_note_is_ignored(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    form = random_form((4, 6), 8)
    model.set_parameter("head", "weight", form)
    model.provenance.history.append({"pass": "quantize.rtn"})
    model.provenance.preprocessing = Preprocessing(1 / 255, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    model.save(tmp_path / "out.pt2")
    again = TorchModel.open(tmp_path / "out.pt2")
    assert again.provenance == model.provenance
    assert again.provenance.forms == {"head": "int8 per-channel"}
    notes = [
        "[]",
        "{",
        '{"forms": 3, "history": {}, "preprocessing": []}',
        '{"forms": {"head": {"weight": {"operator": "linear"}}}}',
    ]
    with zipfile.ZipFile(tmp_path / "out.pt2") as archive:
        note = next(name for name in archive.namelist() if name.endswith("modelkit.json"))
        text = archive.read(note).decode()
        notes += [
            text.replace('"bits": 8', '"bits": 4'),
            text.replace('"axis": 0', '"axis": 7'),
            text.replace("_scale", "_codes"),
        ]
        for i, bad in enumerate(notes):
            with zipfile.ZipFile(tmp_path / f"{i}.pt2", "w") as changed:
                for name in archive.namelist():
                    changed.writestr(name, bad if name == note else archive.read(name))
            opened = TorchModel.open(tmp_path / f"{i}.pt2")
            linear = next(node.name for node in opened.graph.layers() if node.kind == "linear")
            np.testing.assert_array_equal(opened.parameter(linear, "weight"), form.decode())
            np.testing.assert_array_equal(output(opened, image()), output(model, image()))


def test_what_can_not_be_lowered_is_said(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    with pytest.raises(ModelkitError, match="shape"):
        model.set_parameter("head", "weight", random_form((4, 7), 8))
    with pytest.raises(ModelkitError, match="bits"):
        model.set_parameter("head", "weight", Quantized(np.zeros((4, 6), np.int16), np.ones((4, 1), np.float32), 12))
    assert model.can_lower("bn", random_form((6,), 8))
    assert model.can_lower("conv", random_form((6, 3, 3, 3), 8), DynamicGrid())
    assert model.can_lower("head", Quantized(np.empty(0, np.int8), np.empty((0, 1), np.float32), 4)) is None
