"""Linear layers as products of integers: the number of the decoded layer, in a file that torch alone runs, and found again."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelkit.core.forms import DynamicGrid, Grid, Quantized
from modelkit.core.model import EdgeGrid
from modelkit.models.torch.model import TorchModel
from modelkit.models.torch.stored import FILE
from tests.models.torch.networks import Tied, assert_same_layers, operators, save_pt2

GRIDS = {
    "unsigned": Grid(0.031, 121),
    "signed": Grid(0.029, -7, signed=True),
    "centred": Grid(0.03, 0, signed=True),
    "dynamic": None,
}
BIASES = ("none", "float", "integer")
SHAPES = {"two": (5, 24), "three": (2, 7, 24), "odd": (3, 13)}


def codes(outputs: int, inputs: int, limit: int = 64, per_tensor: bool = False, dtype: str = "float32") -> Quantized:
    rng = np.random.default_rng(outputs)
    scale = rng.uniform(0.002, 0.02, (1, 1) if per_tensor else (outputs, 1)).astype(np.float32)
    return Quantized(rng.integers(-limit, limit + 1, (outputs, inputs)).astype(np.int8), scale, 8, dtype=dtype)


def quantised(
    tmp_path: Path, shape: str = "three", grid: Grid | None = GRIDS["unsigned"], bias: str = "integer",
    dtype: torch.dtype = torch.float32, target: str | None = None, limit: int = 64, per_tensor: bool = False,
) -> tuple[TorchModel, dict[str, np.ndarray]]:  # fmt: skip
    torch.manual_seed(1)
    x = torch.randn(SHAPES[shape]) * 2
    module = nn.Sequential(nn.Linear(x.shape[-1], 10, bias=bias != "none")).to(dtype)
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", module, x.to(dtype), dynamic=shape != "odd"))
    name, edge = next(model.graph.layers()).name, model.graph.inputs[0].name
    form = codes(10, x.shape[-1], limit, per_tensor, model.parameter(name, "weight").dtype.name)
    model.provenance.target = target
    model.set_parameter(name, "weight", form, DynamicGrid() if grid is None else None)
    if grid is not None:
        model.quantize_edges({edge: EdgeGrid(grid)})
        if bias == "integer":
            scale = (np.float32(grid.scale) * form.scale).astype(np.float32)
            values = np.random.default_rng(3).integers(-4000, 4000, 10).astype(np.int32)
            model.set_parameter(name, "bias", Quantized(values, scale, 32))
    return model, {edge: x.to(dtype).float().numpy()}


def output(model: TorchModel, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return next(model.observe([feeds], []))[model.graph.outputs[0]]


def oracle(model: TorchModel, feeds: dict[str, np.ndarray], grid: Grid | None) -> np.ndarray:
    """In float64, from the definitions of the grids."""
    (x,) = feeds.values()
    if grid is None:
        low, high = np.float32(min(x.min(), 0)), np.float32(max(x.max(), 0))
        scale = np.float32((high - low) / np.float32(255))
        grid = Grid(float(scale), int(np.rint(-low / scale)))
    name = next(model.graph.layers()).name
    weight, bias = (model.parameter(name, role) for role in ("weight", "bias"))
    on_grid = grid.fake_quantize(x).astype(np.float64)
    return on_grid @ weight.T.astype(np.float64) + (0 if bias is None else bias.astype(np.float64))


@pytest.mark.parametrize("padded", [False, True], ids=["", "padded"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("kind", GRIDS)
def test_the_number_is_that_of_the_definition(tmp_path, kind, bias, shape, padded):
    grid = GRIDS[kind]
    model, feeds = quantised(tmp_path, shape, grid, bias, target="cuda" if padded else "avx2")
    expected = oracle(model, feeds, grid)
    found = output(model, feeds)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())

    model.save(tmp_path / "out.pt2")
    assert "aten._int_mm.default" in operators(tmp_path / "out.pt2")
    (x,) = feeds.values()
    module = torch.export.load(tmp_path / "out.pt2").module()
    np.testing.assert_array_equal(module(torch.from_numpy(x)).detach().numpy(), found)
    if shape != "odd":  # another batch, down to one sample
        np.testing.assert_array_equal(output(model, {name: a[:1] for name, a in feeds.items()}).shape[0], 1)

    again = TorchModel.open(tmp_path / "out.pt2")
    assert_same_layers(again, model)
    np.testing.assert_array_equal(output(again, feeds), found)
    again.save(tmp_path / "again.pt2")
    assert operators(tmp_path / "again.pt2") == operators(tmp_path / "out.pt2")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path, dtype):
    for grid in (GRIDS["unsigned"], None):
        model, feeds = quantised(tmp_path, "three", grid, "float", dtype)
        if dtype is torch.bfloat16:
            import ml_dtypes

            feeds = {name: array.astype(ml_dtypes.bfloat16) for name, array in feeds.items()}
        else:
            feeds = {name: array.astype(np.float16) for name, array in feeds.items()}
        found = output(model, feeds).astype(np.float64)
        model.save(tmp_path / "out.pt2")
        assert "aten._int_mm.default" in operators(tmp_path / "out.pt2")
        expected = oracle(model, {name: array.astype(np.float32) for name, array in feeds.items()}, grid)
        np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())
        again = TorchModel.open(tmp_path / "out.pt2")
        assert str(next(iter(again.forms().values()))[0]) == "int8 per-channel"
        np.testing.assert_array_equal(output(again, feeds).astype(np.float64), found)


def test_one_scale_for_all_channels(tmp_path):
    model, feeds = quantised(tmp_path, per_tensor=True)
    expected = oracle(model, feeds, GRIDS["unsigned"])
    np.testing.assert_allclose(output(model, feeds), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    model.save(tmp_path / "out.pt2")
    assert all(str(form).endswith("per-tensor") for form, _ in TorchModel.open(tmp_path / "out.pt2").forms().values())


@pytest.mark.parametrize(("target", "written"), [(None, False), ("avx2", False), ("vnni", True), ("cuda", True)])
def test_codes_of_8_bits_only_where_sums_are_exact(tmp_path, target, written):
    model, _ = quantised(tmp_path, target=target, limit=127)
    model.save(tmp_path / "out.pt2")
    assert ("aten._int_mm.default" in operators(tmp_path / "out.pt2")) == written


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(24, 16), nn.Linear(24, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.left(x) * torch.sigmoid(self.right(x)) + x[..., :16]


@pytest.mark.parametrize("dynamic", [False, True])
def test_layers_that_share_an_input_quantise_it_once(tmp_path, dynamic):
    x = torch.randn(3, 6, 24)
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", Branches(), x))
    for name in ("left", "right"):
        model.set_parameter(name, "weight", codes(16, 24), DynamicGrid() if dynamic else None)
    edge = model.graph.inputs[0].name
    if not dynamic:  # the sum reads the value itself on the grid, in floating point
        model.quantize_edges({edge: EdgeGrid(Grid(0.03, 120))})
    model.save(tmp_path / "out.pt2")
    found = operators(tmp_path / "out.pt2")
    assert found.count("aten._int_mm.default") == 2 and sum("aten.round" in name for name in found) == (2 if dynamic else 1)
    again = TorchModel.open(tmp_path / "out.pt2")
    assert again.grids == model.grids and len(again.forms()) == 2
    np.testing.assert_array_equal(output(again, {edge: x.numpy()}), output(model, {edge: x.numpy()}))


def test_a_table_that_an_embedding_reads_too_is_not_made_wider(tmp_path):
    tokens = torch.randint(0, 11, (2, 5))
    for target, products in (("cuda", 0), ("avx2", 1)):  # 11 is no multiple of 8
        model = TorchModel.open(save_pt2(tmp_path / "m.pt2", Tied(), tokens))
        model.provenance.target = target
        form = codes(11, 8)
        table, _, last = model.graph.layers()
        edge = last.inputs[0]
        for node in (table, last):
            model.set_parameter(node.name, "weight", form)
        model.quantize_edges({edge: EdgeGrid(Grid(0.01, 0, signed=True))})
        model.save(tmp_path / "out.pt2")
        assert operators(tmp_path / "out.pt2").count("aten._int_mm.default") == products
        feeds = {model.graph.inputs[0].name: tokens.numpy()}
        np.testing.assert_array_equal(output(TorchModel.open(tmp_path / "out.pt2"), feeds), output(model, feeds))


def test_a_note_that_does_not_fit_is_ignored(tmp_path):
    model, feeds = quantised(tmp_path)
    expected = output(model, feeds)
    model.save(tmp_path / "out.pt2")
    with zipfile.ZipFile(tmp_path / "out.pt2") as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    note = next(entry for entry in entries if entry.endswith(FILE))
    said = json.loads(entries[note])
    (records,) = said["forms"].values()
    for change in ({"shape": [9, 24]}, {"operator": "no"}, {"shape": "x"}, {"signed_activations": True}):
        records["weight"] = {**records["weight"], **change}
        with zipfile.ZipFile(tmp_path / "bad.pt2", "w") as archive:
            for entry, data in entries.items():
                archive.writestr(entry, json.dumps(said) if entry == note else data)
        np.testing.assert_allclose(output(TorchModel.open(tmp_path / "bad.pt2"), feeds), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_cuda_runs_what_is_laid_out_for_it(tmp_path, shape, kind):
    from modelkit.runtimes.registry import require_runtime

    model, feeds = quantised(tmp_path, shape, GRIDS[kind], "float", target="cuda", limit=127)
    model.save(tmp_path / "out.pt2")
    feeds = feeds if shape == "odd" else {name: array[:1] for name, array in feeds.items()}
    expected = oracle(model, feeds, GRIDS[kind])
    found = require_runtime("torch").load(tmp_path / "out.pt2", "cuda", 1).run(feeds)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
