"""2:4 layers are found behind whatever decodes their weights; the kernel itself is only on CUDA."""

import numpy as np
import pytest
import torch
from torch import nn

from modelkit.core.forms import Sparse
from modelkit.models.torch.model import TorchModel
from modelkit.runtimes import semi_structured as module
from modelkit.runtimes.compile import CompiledRunner, cxx_compiler
from modelkit.runtimes.registry import require_runtime
from tests.models.torch.networks import save_pt2


def two_of_four(outputs, inputs, seed=0):
    rng = np.random.default_rng(seed)
    keep = np.argsort(rng.random((outputs, inputs // 4, 4)), -1) < 2
    return Sparse.of((rng.standard_normal((outputs, inputs)) / 16).astype(np.float16), "2:4", keep.reshape(outputs, inputs))


def pruned(tmp_path, dtype=torch.float16, rows=3):
    network = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32, bias=False), nn.Linear(32, 7)).to(dtype)
    x = torch.randn(2, rows, 64).to(dtype)
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", network, x))
    if dtype is torch.float16:
        for name, shape in (("0", (96, 64)), ("2", (32, 96))):
            model.set_parameter(name, "weight", two_of_four(*shape))
    model.save(tmp_path / "sparse.pt2")
    return tmp_path / "sparse.pt2", x


@pytest.mark.parametrize("rows", [3, 8])
def test_layers_are_exchanged_and_compute_the_same(tmp_path, monkeypatch, rows):
    path, x = pruned(tmp_path, rows=rows)
    sizes = []

    def multiply(compressed, dense, bias=None):
        sizes.append((tuple(compressed.shape), dense.shape[1] % 8))
        product = compressed.float() @ dense.float() + (0 if bias is None else bias.float()[:, None])
        return product.half()

    monkeypatch.setattr(torch, "_cslt_compress", lambda weight: weight.clone())
    monkeypatch.setattr(torch, "_cslt_sparse_mm", multiply)
    original = torch.export.load(path).module()
    changed = module.semi_structured(original)
    with torch.no_grad():
        found, expected = changed(x), original(x)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    assert sizes == [((96, 64), 0), ((32, 96), 0)]  # the last layer is dense; rows are filled up to 8
    assert not any("masked_scatter" in str(node.target) for node in changed.graph.nodes)


def test_others_have_none(tmp_path):
    path, _ = pruned(tmp_path, torch.float32)
    assert module.semi_structured(torch.export.load(path).module()) is None


@pytest.mark.parametrize(
    ("weight", "taken"),
    [
        (two_of_four(32, 64).decode(), True),
        (two_of_four(32, 64).decode().astype(np.float32), False),
        (np.ones((32, 64), np.float16), False),
        (two_of_four(24, 64).decode(), False),
        (two_of_four(32, 64).decode().reshape(32, 32, 2), False),
    ],
)
def test_what_the_kernels_take(weight, taken):
    assert module.is_two_of_four(torch.from_numpy(weight)) is taken


def test_the_faster_function_is_kept(tmp_path, monkeypatch):
    path, x = pruned(tmp_path)
    program = torch.export.load(path)
    functions = [program.module(), program.module(), program.module()]
    runner = CompiledRunner(program, functions, path, "cpu")
    milliseconds = dict(zip(map(id, functions), (3, 1, 2), strict=True))
    monkeypatch.setattr(CompiledRunner, "timed", lambda self, runs, clock: milliseconds[id(self._function)])
    runner.prepare({"x": x.numpy()})
    assert runner._function is functions[1]


@pytest.mark.skipif(not torch.cuda.is_available() or cxx_compiler() is None, reason="needs a CUDA GPU and a C++ compiler")
def test_cuda_multiplies_compressed_weights(tmp_path):
    path, x = pruned(tmp_path)
    with torch.no_grad():
        expected = torch.export.load(path).module()(x).float().numpy()
    runner = require_runtime("compile").load(path, "cuda", 1)
    assert len(runner._functions) == 2
    for function in runner._functions:
        runner._function = function
        np.testing.assert_allclose(runner.run({"x": x.numpy()})[0], expected, rtol=2e-2, atol=2e-2)
