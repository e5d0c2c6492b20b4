"""Convolutions as products of integers: the number of the decoded layer, in a file that torch alone runs, and found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelkit.core.forms import Grid, Quantized
from modelkit.core.model import EdgeGrid
from modelkit.models.torch.model import TorchModel
from modelkit.models.torch.patches import in_rows, patch_steps
from tests.models.torch.networks import assert_same_layers, operators, save_pt2

GRIDS = {"unsigned": Grid(0.031, 121), "signed": Grid(0.029, -7, signed=True), "zero": Grid(0.03, 128)}
CASES = {  # input, and the convolution
    "same": ((2, 4, 7, 6), nn.Conv2d(4, 6, 3, padding=1)),
    "strided": ((3, 4, 9, 9), nn.Conv2d(4, 6, (5, 3), stride=(3, 2), padding=(2, 0))),
    "dilated": ((2, 4, 12, 9), nn.Conv2d(4, 6, 3, padding=2, dilation=(2, 3), bias=False)),
    "pointwise": ((2, 8, 6, 5), nn.Conv2d(8, 6, 1)),
    "pointwise, strided": ((2, 8, 6, 5), nn.Conv2d(8, 6, 1, stride=2)),
    "pointwise, padded": ((2, 8, 6, 5), nn.Conv2d(8, 6, 1, padding=1)),
    "odd": ((1, 3, 8, 8), nn.Conv2d(3, 5, 3, stride=2, padding="valid")),
    "padded by name": ((2, 4, 7, 7), nn.Conv2d(4, 6, 3, padding="same")),
    "one axis": ((2, 6, 11), nn.Conv1d(6, 4, 5, stride=2, padding=2)),
    "three axes": ((2, 2, 5, 6, 7), nn.Conv3d(2, 4, (3, 1, 2), stride=(1, 2, 1), padding=(1, 0, 0))),
}


class Image(nn.Module):
    """What reads an image afterwards may expect its channels first in memory."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        return x.view(x.shape[0], -1)


def form(shape: tuple[int, ...], limit: int = 64, dtype: str = "float32") -> Quantized:
    rng = np.random.default_rng(shape[0])
    scale = rng.uniform(0.002, 0.02, (shape[0], 1)).astype(np.float32)
    return Quantized(rng.integers(-limit, limit + 1, shape).astype(np.int8), scale, 8, dtype=dtype)


def quantised(
    folder: Path, case: str, grid: Grid = GRIDS["unsigned"], target: str | None = None, limit: int = 64, bias: str = "integer",
    dtype: torch.dtype = torch.float32,
) -> tuple[TorchModel, torch.Tensor]:  # fmt: skip
    torch.manual_seed(1)
    size, conv = CASES[case]
    x = torch.randn(size) * 2
    model = TorchModel.open(save_pt2(folder / "m.pt2", Image(conv).to(dtype), x.to(dtype), dynamic=size[0] > 1))
    conv.float()
    name, edge = next(model.graph.layers()).name, model.graph.inputs[0].name
    weight = form(tuple(conv.weight.shape), limit, str(dtype).removeprefix("torch."))
    model.provenance.target = target
    model.set_parameter(name, "weight", weight)
    model.quantize_edges({edge: EdgeGrid(grid)})
    if conv.bias is not None and bias == "integer":
        values = np.random.default_rng(3).integers(-4000, 4000, len(conv.bias)).astype(np.int32)
        scale = (np.float32(grid.scale) * weight.scale).astype(np.float32)
        model.set_parameter(name, "bias", Quantized(values, scale, 32, dtype=weight.dtype))
    return model, x.to(dtype)


def output(model: TorchModel, x: torch.Tensor) -> np.ndarray:
    array = x.float().numpy().astype(np.float16) if x.dtype is torch.float16 else x.numpy()
    return next(model.observe([{model.graph.inputs[0].name: array}], []))[model.graph.outputs[0]]


def oracle(model: TorchModel, case: str, x: torch.Tensor, grid: Grid) -> np.ndarray:
    """In float64, from the definitions of the grids."""
    conv, name = CASES[case][1], next(model.graph.layers()).name
    on_grid = torch.from_numpy(grid.fake_quantize(x.float().numpy())).double()
    weight, bias = (model.parameter(name, role) for role in ("weight", "bias"))
    bias = None if bias is None else torch.from_numpy(bias).double()
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[weight.ndim - 2]
    y = convolve(on_grid, torch.from_numpy(weight).double(), bias, conv.stride, conv.padding, conv.dilation)
    return torch.relu(y).flatten(1).numpy()


@pytest.mark.parametrize("padded", [False, True], ids=["", "padded"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", GRIDS)
def test_the_number_is_that_of_the_definition(tmp_path, kind, case, padded):
    grid = GRIDS[kind]
    model, x = quantised(tmp_path, case, grid, "cuda" if padded else "avx2")
    expected, found = oracle(model, case, x, grid), output(model, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())

    model.save(tmp_path / "out.pt2")
    assert "aten._int_mm.default" in operators(tmp_path / "out.pt2")
    module = torch.export.load(tmp_path / "out.pt2").module()
    for layout in (torch.contiguous_format, torch.channels_last if x.dim() == 4 else torch.contiguous_format):
        np.testing.assert_array_equal(module(x.contiguous(memory_format=layout)).detach().numpy(), found)
    if len(x) > 1:  # another batch, down to one sample
        np.testing.assert_allclose(output(model, x[:1]), found[:1], rtol=1e-6)

    again = TorchModel.open(tmp_path / "out.pt2")
    assert_same_layers(again, model)
    assert again.graph.nodes[0].attributes == model.graph.nodes[0].attributes
    np.testing.assert_array_equal(output(again, x), found)
    again.save(tmp_path / "again.pt2")
    assert operators(tmp_path / "again.pt2") == operators(tmp_path / "out.pt2")


@pytest.mark.parametrize("bias", ["float", "integer"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_biases_and_half_precision(tmp_path, bias, dtype):
    model, x = quantised(tmp_path, "same", bias=bias, dtype=dtype)
    expected, tolerance = oracle(model, "same", x, GRIDS["unsigned"]), 1e-5 if dtype is torch.float32 else 0.02
    np.testing.assert_allclose(output(model, x), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
    model.save(tmp_path / "out.pt2")
    assert "aten._int_mm.default" in operators(tmp_path / "out.pt2")
    np.testing.assert_array_equal(output(TorchModel.open(tmp_path / "out.pt2"), x), output(model, x))


@pytest.mark.parametrize(("target", "case", "limit", "written"), [
    ("avx2", "same", 127, False), ("vnni", "same", 127, True), ("avx2", "odd", 100, False), (None, "odd", 64, True),
])  # fmt: skip
def test_codes_of_8_bits_only_where_sums_are_exact(tmp_path, target, case, limit, written):
    model, _ = quantised(tmp_path, case, target=target, limit=limit)
    model.save(tmp_path / "out.pt2")
    assert ("aten._int_mm.default" in operators(tmp_path / "out.pt2")) == written


@pytest.mark.parametrize("conv", [nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 2, padding="same"), nn.ConvTranspose2d(4, 4, 3)])
def test_what_is_no_single_product_is_simulated(tmp_path, conv):
    x = torch.randn(2, 4, 8, 8)
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", Image(conv), x))
    name, edge = next(model.graph.layers()).name, model.graph.inputs[0].name
    model.set_parameter(name, "weight", form(tuple(conv.weight.shape)))
    model.quantize_edges({edge: EdgeGrid(GRIDS["unsigned"])})
    model.save(tmp_path / "out.pt2")
    assert "aten._int_mm.default" not in operators(tmp_path / "out.pt2")
    np.testing.assert_array_equal(output(TorchModel.open(tmp_path / "out.pt2"), x), output(model, x))


def test_decomposed_programs_have_no_operators_in_place(tmp_path):
    batch = torch.export.Dim("batch", max=64)
    exported = torch.export.export(Image(nn.Conv2d(4, 6, 3)), (torch.randn(2, 4, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(exported.run_decompositions(), tmp_path / "m.pt2")
    model = TorchModel.open(tmp_path / "m.pt2")
    name, edge = next(model.graph.layers()).name, model.graph.inputs[0].name
    model.set_parameter(name, "weight", form((6, 4, 3, 3)))
    model.quantize_edges({edge: EdgeGrid(GRIDS["unsigned"])})
    model.save(tmp_path / "out.pt2")
    assert "aten._int_mm.default" in operators(tmp_path / "out.pt2")
    x = torch.randn(3, 4, 8, 8)
    np.testing.assert_array_equal(output(TorchModel.open(tmp_path / "out.pt2"), x), output(model, x))


class Windows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).as_strided((2, 6, 3, 8), (384, 64, 8, 1))


def test_what_reads_memory_itself_keeps_channels_first(tmp_path):
    x = torch.randn(2, 4, 8, 8)
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", Windows(), x, dynamic=False))
    name, edge = next(model.graph.layers()).name, model.graph.inputs[0].name
    model.set_parameter(name, "weight", form((6, 4, 3, 3)))
    model.quantize_edges({edge: EdgeGrid(GRIDS["unsigned"])})
    on_grid = torch.from_numpy(GRIDS["unsigned"].fake_quantize(x.numpy()))
    bias = torch.from_numpy(model.parameter(name, "bias"))
    expected = F.conv2d(on_grid, torch.from_numpy(model.parameter(name, "weight")), bias, padding=1)
    np.testing.assert_allclose(output(model, x), expected[:, :, :3].numpy(), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_patches_times_rows_are_the_convolution(data):
    rank, draw = data.draw(st.integers(1, 3)), data.draw

    def each(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(rank)]

    kernel, stride, dilation, padding = each(1, 3), each(1, 3), each(1, 2), each(0, 2)
    channels, outputs, batch = (draw(st.integers(1, 3)) for _ in range(3))
    size = [(k - 1) * d + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True)]
    x, weight = torch.randn(batch, channels, *size).double(), torch.randn(outputs, channels, *kernel).double()
    rows = x
    window = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": [[p, p] for p in padding]}
    for operator, args in patch_steps(window, 0):
        rows = operator(rows, *args)
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    expected = convolve(x, weight, None, stride, padding, dilation)
    product = rows.reshape(-1, in_rows(weight).shape[1]) @ in_rows(weight).t()
    torch.testing.assert_close(product.reshape(batch, -1, outputs).movedim(-1, 1), expected.flatten(2))


class Shown(nn.Module):
    """What reads a layer's output could work in place on it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(4, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.linear((y + 1.0).mean((2, 3))) * 2.0


def test_values_that_are_looked_at_are_not_overwritten(tmp_path):
    x = torch.randn(2, 4, 6, 6)
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", Shown(), x))
    conv, linear = model.graph.layers()
    for layer in (conv, linear):
        model.set_parameter(layer.name, "weight", form(layer.parameters["weight"].shape))
    model.quantize_edges({conv.inputs[0]: EdgeGrid(GRIDS["signed"]), linear.inputs[0]: EdgeGrid(GRIDS["unsigned"])})
    edges = [node.outputs[0] for node in model.graph.nodes]
    values = next(model.observe([{model.graph.inputs[0].name: x.numpy()}], edges))
    np.testing.assert_array_equal(values[model.graph.outputs[0]], values[linear.outputs[0]] * np.float32(2))
    shifted = next(node for node in model.graph.nodes if node.inputs[0] == conv.outputs[0]).outputs[0]
    np.testing.assert_array_equal(values[shifted], values[conv.outputs[0]] + np.float32(1))
    model.save(tmp_path / "out.pt2")
    assert any(name.endswith("_.Tensor") for name in operators(tmp_path / "out.pt2"))
