"""Small networks, exported and saved in every way that torch has, and random forms for their weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from modelkit.core.forms import Quantized
from modelkit.models.torch.model import TorchModel

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
ARCH = "tests.models.torch.networks:conv_module"
IMAGE = {"image": ("float32", (1, 3, 8, 8))}


class Conv(nn.Module):
    """Convolution, batch norm, ReLU and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(image)))
        result: Tensor = self.head(x.mean((2, 3)))
        return result


class Tied(nn.Module):
    """An embedding whose table is the output layer's weight too."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.hidden = nn.Linear(8, 8)
        self.output = nn.Linear(8, 11, bias=False)
        self.output.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.output(torch.tanh(self.hidden(self.table(tokens))))
        return result


def conv_module() -> nn.Module:
    """The factory that tests name with --arch."""
    torch.manual_seed(0)
    module = Conv()
    module.bn.running_mean.uniform_(-1, 1)
    module.bn.running_var.uniform_(0.5, 2)
    return module.eval()


def not_a_module() -> int:
    return 3


def failing() -> nn.Module:
    raise RuntimeError("no weights for you")


def image(batch: int = 3) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(batch).standard_normal((batch, 3, 8, 8)).astype(np.float32)}


def reference(module: nn.Module, feeds: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return module(*(torch.from_numpy(array) for array in feeds.values())).numpy()


def save_pt2(path: Path, module: nn.Module, *inputs: Tensor, dynamic: bool = True) -> Path:
    batch = torch.export.Dim("batch", min=1, max=1024)
    shapes = tuple({0: batch} for _ in inputs) if dynamic else None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=shapes, strict=False), path)
    return path


def conv_pt2(path: Path) -> Path:
    return save_pt2(path, conv_module(), torch.randn(2, 3, 8, 8))


def random_form(
    shape: tuple[int, ...], bits: int, *, signed: bool = True, asymmetric: bool = False, group_size: int | None = None,
    axis: int = 0, per_tensor: bool = False, dtype: str = "float32",
) -> Quantized:  # fmt: skip
    """Codes that use the whole range of their bits, on grids of different steps."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind = np.int8 if signed else np.uint8
    columns = int(np.prod(shape)) // shape[axis]
    grid = (1, 1) if per_tensor else (shape[axis], -(-columns // group_size) if group_size else 1)
    zero = RNG.integers(low, high + 1, grid).astype(kind) if asymmetric else None
    scale = RNG.uniform(0.01, 0.05, grid).astype(np.float32)
    return Quantized(RNG.integers(low, high + 1, shape).astype(kind), scale, bits, zero, group_size, axis, dtype)


def operators(path: Path) -> list[str]:
    return [str(node.target) for node in torch.export.load(path).graph.nodes]


def assert_same_layers(again: TorchModel, model: TorchModel) -> None:
    """The same nodes, with the same forms and grids."""
    assert again.forms().keys() == model.forms().keys() and again.grids == model.grids
    for site, (form, activation) in model.forms().items():
        other, mode = again.forms()[site]
        np.testing.assert_array_equal(other.decode(), form.decode())
        assert (str(other), mode) == (str(form), activation)
    assert [node.name for node in again.graph.nodes] == [node.name for node in model.graph.nodes]
