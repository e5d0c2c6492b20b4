"""An activation that is multiplied by a factor before it is put on its grid, in both families and across them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelkit.core.forms import Dense, Grid
from modelkit.core.model import EdgeGrid
from modelkit.models.crossing import to_onnx, to_torch
from modelkit.models.onnx.model import OnnxModel
from modelkit.models.opening import open_model
from modelkit.models.torch.model import TorchModel
from tests.models.torch.networks import save_pt2

RNG = np.random.default_rng(0)
FACTOR = np.exp(RNG.standard_normal(20)).astype(np.float32)
GRID = Grid.over(-2.5, 3.5)
X = RNG.standard_normal((3, 4, 20)).astype(np.float32)


class Block(nn.Module):
    """A value that a linear layer reads, and a sum reads as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(x)
        return self.fc(x) + x


def block(tmp_path: Path, family: str) -> TorchModel | OnnxModel:
    torch.manual_seed(0)
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", Block(), torch.from_numpy(X)))
    return model if family == "torch" else to_onnx(model)


@pytest.mark.parametrize("family", ["torch", "onnx"])
def test_a_factor_is_what_its_definition_says(tmp_path: Path, family: str) -> None:
    model = block(tmp_path, family)
    layer = model.graph.by_name["fc"]
    weight, bias = model.parameter("fc", "weight"), model.parameter("fc", "bias")
    model.set_parameter("fc", "weight", Dense(weight / FACTOR))
    model.quantize_edges({layer.inputs[0]: EdgeGrid(GRID, frozenset({"fc"}), FACTOR)})
    raw = np.tanh(X)
    expected = GRID.fake_quantize(raw * FACTOR) @ (weight / FACTOR).T + bias + raw

    def check(opened: TorchModel | OnnxModel) -> None:
        found = next(iter(opened.observe([{opened.graph.inputs[0].name: X}], [])))[opened.graph.outputs[0]]
        close = np.isclose(found, expected, atol=1e-5)  # a value halfway between two points may fall on either
        assert close.mean() > 0.99 and np.abs(found - expected).max() < 2 * GRID.scale

    check(model)
    check(model.copy())
    file = tmp_path / f"out.{'pt2' if family == 'torch' else 'onnx'}"
    model.save(file)
    check(open_model(file))
    check(to_onnx(model) if family == "torch" else to_torch(model))
    if family == "torch":
        program = torch.export.load(file).module()
        close = np.isclose(program(torch.from_numpy(X)).detach().numpy(), expected, atol=1e-5)
        assert close.mean() > 0.99
