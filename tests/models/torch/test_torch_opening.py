"""Opening torch's files of every kind, and files that are none. (What would run code: test_torch_hostile.py.)"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.models.opening import open_model
from modelkit.models.torch.model import TorchModel
from tests.models.torch.archives import rewrite, torch_saved
from tests.models.torch.networks import ARCH, IMAGE, Conv, conv_module, conv_pt2, image, reference, save_pt2


def outputs(model: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return next(model.observe([feeds], []))[model.graph.outputs[0]]


# -- every kind of file


def check(model: Any, kind: str) -> None:
    assert (model.format, model.family) == (kind, "torch")
    assert [str(entry) for entry in model.graph.inputs] == ["image:float32[batch,3,8,8]"]
    assert [node.name for node in model.graph.layers()] == ["conv", "head"]
    for batch in (1, 5):
        np.testing.assert_allclose(outputs(model, image(batch)), reference(conv_module(), image(batch)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", [torch.jit.script, lambda module: torch.jit.trace(module, torch.randn(2, 3, 8, 8))])
def test_torchscript(tmp_path: Path, how: Callable[[nn.Module], Any]) -> None:
    path = tmp_path / "model.pt"
    torch.jit.save(how(conv_module()), path)
    check(open_model(path, bindings=IMAGE), "torchscript")
    check(open_model(path, example=image(4)), "torchscript")
    check(open_model(path, example={"x": image(4)["image"]}), "torchscript")  # One input: its name does not matter.
    with pytest.raises(ModelkitError, match="--input"):
        open_model(path)
    model = open_model(path, bindings=IMAGE)
    model.save(tmp_path / "out.pt2")
    assert dict(torch.export.load(tmp_path / "out.pt2").module().named_parameters()).keys() >= {"conv.weight", "head.bias"}


class Rotated(nn.Module):
    """Sizes computed from sizes, of the batch too: a trace holds them as arithmetic of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        half = y.shape[-1] // 2
        y = y + torch.cat([-y[..., half:], y[..., :half]], -1)
        y = nn.functional.pad(y, (0, 0, 0, (4 - x.shape[1] % 4) % 4))[:, : x.shape[1]]  # to whole windows, and back
        root = y.shape[-1] ** 0.5
        side = root.to(torch.int64) if isinstance(root, torch.Tensor) else int(root)
        y = y.reshape(x.shape[0], -1, side, side).transpose(2, 3).reshape(y.shape)
        y = y.reshape(x.shape[0] * x.shape[1], y.shape[-1] - half + half)
        return torch.relu(self.last(y)).reshape(x.shape[0], -1)


class Scripted(nn.Module):
    """Sizes computed from sizes, as numbers: a script holds them as operators that know no symbols."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        half = y.size(2) // 2
        y = torch.cat([y[:, :, half:], y[:, :, :half]], 2).reshape(x.size(0) * x.size(1), 3 * half - half)
        return torch.relu(self.last(y)).reshape(x.size(0), -1)


@pytest.mark.parametrize(
    ("module", "script"), [(Rotated, torch.jit.trace), (Scripted, lambda module, x: torch.jit.script(module))]
)
def test_computed_sizes_are_sizes(tmp_path: Path, module: Any, script: Any) -> None:
    path, module = tmp_path / "model.pt", module().eval()
    x = torch.randn(5, 3, 6)
    torch.jit.save(script(module, x[:2]), path)
    model = open_model(path, example={"x": x.numpy()})
    assert not any(node.op in ("aten._local_scalar_dense", "aten.item") for node in model.graph.nodes)
    assert model.graph.inputs[0].dims[0] == "batch" and all(edge.shape is not None for edge in model.graph.edges.values())
    np.testing.assert_allclose(outputs(model, {"x": x.numpy()}), module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_traced_convolutions_with_named_padding_are_layers(tmp_path: Path, dimensions: int, padding: str) -> None:
    path = tmp_path / "model.pt"
    convolution = [nn.Conv1d, nn.Conv2d, nn.Conv3d][dimensions - 1]
    module = nn.Sequential(convolution(3, 8, 3, padding=padding), nn.ReLU(), convolution(8, 4, 1, padding=padding, bias=False))
    x = torch.randn(2, 3, *[5] * dimensions)
    torch.jit.save(torch.jit.trace(module.eval(), x), path)
    model = open_model(path, example={"input": x.numpy()})
    assert [node.kind for node in model.graph.nodes] == ["conv", "activation", "conv"]
    np.testing.assert_allclose(outputs(model, {"input": x.numpy()}), module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_pickled_module(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(conv_module(), path)
    with pytest.raises(ModelkitError, match="--trust"):
        open_model(path, bindings=IMAGE)
    check(open_model(path, trust=True, bindings=IMAGE), "module")
    with pytest.raises(ModelkitError, match="--input"):
        open_model(path, trust=True, bindings={"photo": IMAGE["image"], "other": IMAGE["image"]})


WRAPPERS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "raw": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"state": {}, "lr": 0.1}},
    "net": lambda state: {"net": state, "acc": 0.93},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "state_dict and model.": lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}},
    "_orig_mod.module.": lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_state_dict(tmp_path: Path, wrapper: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(WRAPPERS[wrapper](conv_module().state_dict()), path, _use_new_zipfile_serialization=wrapper != "net")
    check(open_model(path, arch=ARCH, bindings=IMAGE), "state_dict")
    with pytest.raises(ModelkitError, match="--arch"):
        open_model(path, bindings=IMAGE)


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(conv_module().state_dict(), path)
    check(open_model(path, arch=ARCH, bindings=IMAGE), "state_dict")
    with pytest.raises(ModelkitError, match="--arch"):
        open_model(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelkitError, match="can't be read"):
        open_model(path, arch=ARCH, bindings=IMAGE)


def test_state_dict_saved_on_a_gpu(tmp_path: Path) -> None:
    """Storages say where they lived: here "cuda:0", written without a GPU by editing the pickle."""
    plain, path = tmp_path / "cpu.pth", tmp_path / "gpu.pth"
    torch.save(conv_module().state_dict(), plain)
    rewrite(
        plain,
        path,
        lambda name, data: data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0") if name.endswith("pkl") else data,
    )
    check(open_model(path, arch=ARCH, bindings=IMAGE), "state_dict")


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("tests.models.torch.networks", "module:factory"),
        ("no_such_module:make", "no module no_such_module"),
        ("tests.models.torch.networks:nothing", "nothing"),
        ("tests.models.torch.networks:not_a_module", "int"),
        ("tests.models.torch.networks:failing", "no weights for you"),
        ("tests.models.torch.networks:Tied", "lacks"),
    ],
)
def test_wrong_architectures(tmp_path: Path, arch: str, said: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(conv_module().state_dict(), path)
    with pytest.raises(ModelkitError, match=said):
        open_model(path, arch=arch, bindings=IMAGE)


def test_mismatched_keys_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = conv_module().state_dict()
    state["extra.weight"] = state.pop("head.weight")
    state["conv.weight"] = torch.zeros(6, 3, 5, 5)
    torch.save(state, path)
    with pytest.raises(ModelkitError, match=r"lacks head.weight.*no extra.weight.*conv.weight \(6, 3, 5, 5\) for \(6, 3, 3, 3\)"):
        open_model(path, arch=ARCH, bindings=IMAGE)


class OneSample(Conv):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image.reshape(1, 3, 8, 8))


def test_fixed_batch_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(OneSample().eval(), path)
    with pytest.warns(InputWarning, match="batch size"):
        model = open_model(path, trust=True, bindings=IMAGE)
    assert model.graph.inputs[0].dims == (1, 3, 8, 8)


def test_training_mode_is_noticed(tmp_path: Path) -> None:
    with torch.no_grad():
        torch.export.save(torch.export.export(Conv().train(), (torch.randn(2, 3, 8, 8),), strict=False), tmp_path / "m.pt2")
    with pytest.warns(InputWarning, match="training mode"):
        TorchModel.open(tmp_path / "m.pt2")


# -- files that are no models


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def bad_files(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    good = conv_pt2(tmp_path / "good.pt2").read_bytes()
    torch.save(conv_module().state_dict(), tmp_path / "state.pt")
    state = (tmp_path / "state.pt").read_bytes()
    legacy = torch_saved(conv_module().state_dict(), _use_new_zipfile_serialization=False)
    (tmp_path / "empty_folder").mkdir()
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    with zipfile.ZipFile(tmp_path / "things.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    return {
        "missing": (tmp_path / "nothing.pt2", "does not exist"),
        "empty": (write(tmp_path / "empty.pt2", b""), "is empty"),
        "truncated pt2": (write(tmp_path / "cut.pt2", good[: len(good) // 2]), "cut short"),
        "truncated state dict": (write(tmp_path / "cut.pt", state[:-100]), "cut short"),
        "truncated legacy": (write(tmp_path / "cut_legacy.pt", legacy[:200]), "cut short"),
        "text": (write(tmp_path / "text.pt", b"hello, I am no model"), "not a model"),
        "zip": (tmp_path / "things.zip", "zip file without a model"),
        "pickle": (write(tmp_path / "list.pkl", pickle.dumps([1, 2])), "torch did not write"),
        "folder": (tmp_path / "empty_folder", "config.json"),
        "checkpoint": (checkpoint, "Hugging Face"),
        "lfs": (write(tmp_path / "lfs.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
        "gguf": (write(tmp_path / "m.gguf", b"GGUF" + bytes(60)), "not supported"),
        "tflite": (write(tmp_path / "m.tflite", bytes(4) + b"TFL3" + bytes(60)), "not supported"),
        "keras": (write(tmp_path / "m.h5", b"\x89HDF\r\n\x1a\n" + bytes(60)), "not supported"),
        "arrays": (write(tmp_path / "x.npy", b"\x93NUMPY" + bytes(60)), "array"),
    }


def test_files_that_are_no_models(tmp_path: Path) -> None:
    for name, (path, said) in bad_files(tmp_path).items():
        with pytest.raises(ModelkitError) as caught:
            open_model(path, bindings=IMAGE)
        assert said in str(caught.value), (name, str(caught.value))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_no_permission(tmp_path: Path) -> None:
    path = conv_pt2(tmp_path / "m.pt2")
    path.chmod(0)
    with pytest.raises(ModelkitError, match="permission"):
        open_model(path)


def test_cut_anywhere_or_with_bits_flipped_is_told(tmp_path: Path) -> None:
    good = conv_pt2(tmp_path / "good.pt2").read_bytes()
    path = tmp_path / "m.pt2"
    random = np.random.default_rng(0)
    for i in range(30):
        data = bytearray(good[: random.integers(1, len(good))] if i % 2 else good)
        if i % 2 == 0:
            for _ in range(20):
                data[random.integers(len(data))] ^= 1 << random.integers(8)
        try:
            open_model(write(path, bytes(data)))
        except ModelkitError:
            pass  # Flips in the weights or the padding do no harm.


def test_wrong_extension_is_opened_with_a_warning(tmp_path: Path) -> None:
    conv_pt2(tmp_path / "m.pt2").rename(tmp_path / "m.onnx")
    with pytest.warns(InputWarning, match="by its content"):
        model = open_model(tmp_path / "m.onnx")
    assert model.format == "pt2"


def test_in_place_operators(tmp_path: Path) -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            z = y.view(-1, 2, 4)
            y.relu_()
            y += x
            return y + z.reshape(-1, 8)

    path = save_pt2(tmp_path / "m.pt2", InPlace(), torch.randn(2, 8))
    model = TorchModel.open(path)
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    np.testing.assert_allclose(outputs(model, {"x": x}), reference(InPlace(), {"x": x}), rtol=1e-6)
    assert not any(node.op.endswith("_") for node in model.graph.nodes)
