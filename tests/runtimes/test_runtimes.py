"""Every runtime runs a file, gives the right numbers, and says plainly what it lacks."""

import time
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from modelkit.bench.worker import read_arrays, write_arrays
from modelkit.core.errors import ModelkitError
from modelkit.core.graph import Graph, Node, Parameter
from modelkit.core.model import Provenance
from modelkit.runtimes import registry
from modelkit.runtimes.choice import choose_runtime, runnable_file
from modelkit.runtimes.compile import TorchCompile, cxx_compiler
from modelkit.runtimes.registry import find_runtime, require_runtime, runtime_names
from modelkit.runtimes.runtime import match
from tests.bench.small_models import linear_onnx

needs_compiler = pytest.mark.skipif(cxx_compiler() is None, reason="torch.compile needs a C++ compiler")
EACH_TORCH = ["torch", pytest.param("compile", marks=[needs_compiler, pytest.mark.slow])]


class TwoHeads(torch.nn.Module):
    """Nested inputs, a keyword, and two outputs of which one is bfloat16."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 3)

    def forward(self, pair, *, scale):
        x, ids = pair
        y = self.linear(x) * scale
        return {"scores": torch.relu(y), "sum": (y.sum(1) + ids).bfloat16()}


@pytest.fixture(scope="module")
def two_heads(tmp_path_factory):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = TwoHeads().eval()
    inputs = ((torch.randn(2, 8), torch.arange(2)),), {"scale": torch.tensor(2.0)}
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, *inputs, dynamic_shapes={"pair": ({0: batch}, {0: batch}), "scale": {}})
    path = tmp_path_factory.mktemp("torch") / "two_heads.pt2"
    torch.export.save(program, path)
    return module, path, program.graph_signature.user_inputs


@pytest.mark.parametrize("name", EACH_TORCH)
def test_torch_runtimes_give_the_module_s_numbers(name, two_heads):
    module, path, names = two_heads
    runner = require_runtime(name).load(path, "cpu", 1)
    rng = np.random.default_rng(0)
    x, ids, scale = rng.standard_normal((5, 8)).astype(np.float32), np.arange(5), np.float32(0.5)
    for feeds in (dict(zip(names, (x, ids, scale), strict=True)), {"a": x, "b": ids, "c": scale}):
        found = runner.run(feeds)
        with torch.no_grad():
            expected = module((torch.from_numpy(x), torch.from_numpy(ids)), scale=torch.tensor(0.5))
        assert len(found) == 2
        np.testing.assert_allclose(found[0], expected["scores"].numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[1], expected["sum"].float().numpy(), rtol=1e-2)
    runner.prepare(feeds)
    assert runner.timed(3, time.perf_counter_ns) > 0
    assert runner.device_memory() is None


@pytest.mark.parametrize("name", ["torch", pytest.param("compile", marks=needs_compiler)])
def test_torch_runtimes_run_quantised_operators(name, tmp_path):
    from torch.ao.quantization.fx import _decomposed  # noqa: F401

    class Rounded(torch.nn.Module):
        def forward(self, x):
            q = torch.ops.quantized_decomposed.quantize_per_tensor(x, 0.1, 128, 0, 255, torch.uint8)
            return torch.ops.quantized_decomposed.dequantize_per_tensor(q, 0.1, 128, 0, 255, torch.uint8)

    path = tmp_path / "rounded.pt2"
    torch.export.save(torch.export.export(Rounded(), (torch.randn(2, 4),)), path)
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    runner = require_runtime(name).load(path, "cpu", 1)
    (found,) = runner.run({"x": x})
    np.testing.assert_allclose(found, np.rint(x / 0.1) * 0.1, atol=1e-5)


def test_onnxruntime_gives_the_numbers(tmp_path):
    import onnx

    path = linear_onnx(tmp_path / "linear.onnx")
    weight, bias = (onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer)
    x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    runner = require_runtime("onnxruntime").load(path, "cpu", 1)
    for feeds in ({"x": x}, {"another name": x}):
        (found,) = runner.run(feeds)
        np.testing.assert_allclose(found, x @ weight + bias, rtol=1e-5, atol=1e-5)
    runner.prepare({"x": x})
    assert runner.timed(2, time.perf_counter_ns) > 0


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_wrong_feeds_are_user_errors(name, tmp_path, two_heads):
    path = linear_onnx(tmp_path / "linear.onnx") if name == "onnxruntime" else two_heads[1]
    runner = require_runtime(name).load(path, "cpu", 1)
    with pytest.raises(ModelkitError, match="inputs"):
        runner.prepare({"a": np.zeros(1), "b": np.zeros(1), "c": np.zeros(1), "d": np.zeros(1)} | {})
    wrong = {"x": np.zeros((3, 7), np.float32)} if name == "onnxruntime" else dict.fromkeys("abc", np.zeros((3, 7), np.float32))
    with pytest.raises(ModelkitError, match="failed to run"):
        runner.prepare(wrong)


@pytest.mark.parametrize(("name", "suffix"), [("onnxruntime", ".onnx"), ("torch", ".pt2")])
def test_files_that_are_no_models_are_user_errors(name, suffix, tmp_path):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"this is no model")
    with pytest.raises(ModelkitError, match="bad"):
        require_runtime(name).load(path, "cpu", 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize(
    ("name", "fix"),
    [("torch", "nvidia-smi"), pytest.param("compile", "nvidia-smi", marks=needs_compiler), ("onnxruntime", "onnxruntime-gpu")],
)
def test_missing_cuda_says_what_to_do(name, fix, tmp_path, two_heads):
    if name == "onnxruntime" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    path = linear_onnx(tmp_path / "linear.onnx") if name == "onnxruntime" else two_heads[1]
    with pytest.raises(ModelkitError, match="CUDA") as error:
        require_runtime(name).load(path, "cuda", 1)
    assert fix in error.value.fix and "--device cpu" in error.value.fix


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["torch", "compile"])
def test_cuda_agrees_with_the_cpu(name, two_heads):
    module, path, names = two_heads
    feeds = dict(zip(names, (np.ones((2, 8), np.float32), np.arange(2), np.float32(1)), strict=True))
    runner = require_runtime(name).load(path, "cuda", 1)
    with torch.no_grad():
        expected = module((torch.ones(2, 8), torch.arange(2)), scale=torch.tensor(1.0))
    np.testing.assert_allclose(runner.run(feeds)[0], expected["scores"].numpy(), rtol=1e-3, atol=1e-3)
    runner.prepare(feeds)
    assert runner.timed(3, time.perf_counter_ns) > 0
    assert runner.device_memory() > 0


def test_no_compiler_is_a_user_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ModelkitError, match=r"C\+\+ compiler"):
        TorchCompile().load(Path("m.pt2"), "cpu", 1)
    with pytest.raises(ModelkitError, match="can't be used here"):
        require_runtime("compile")


def test_bfloat16_inputs_reach_the_model(tmp_path):
    import ml_dtypes

    path, x = tmp_path / "m.pt2", torch.randn(2, 8).bfloat16()
    module = torch.nn.Linear(8, 3).bfloat16()
    torch.export.save(torch.export.export(module, (x,)), path)
    write_arrays(tmp_path / "feeds.npz", {"input": x.float().numpy().astype(ml_dtypes.bfloat16), "n 1": np.arange(3)})
    feeds = read_arrays(tmp_path / "feeds.npz")
    assert list(feeds) == ["input", "n 1"] and feeds.pop("n 1").dtype == np.int64
    with torch.no_grad():
        np.testing.assert_array_equal(find_runtime("torch").load(path, "cpu", 1).run(feeds)[0], module(x).float().numpy())


def test_match_by_name_then_by_order():
    assert match({"b": 1, "a": 2, "more": 3}, ["a", "b"], Path("m")) == {"a": 2, "b": 1}
    assert match({"x": 1, "y": 2}, ["a", "b"], Path("m")) == {"a": 1, "b": 2}
    assert match({"mask.1": 1, "x": 2, "1": 3}, ["ids", "input_1", "mask_1"], Path("m")) == {"ids": 2, "input_1": 3, "mask_1": 1}
    assert match({"x.1": 1, "x_1": 2}, ["x.1", "x_1"], Path("m")) == {"x.1": 1, "x_1": 2}
    with pytest.raises(ModelkitError, match="takes 2 inputs"):
        match({"x": 1}, ["a", "b"], Path("m"))


class Echo:
    name = "echo"
    family = "onnx"

    def available(self):
        return None


def test_plugins_come_by_entry_point_and_fail_only_when_chosen(monkeypatch):
    points = [
        EntryPoint("echo", f"{__name__}:Echo", registry.GROUP),
        EntryPoint("broken", "no_such_package:Runtime", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])
    assert runtime_names() == ["broken", "echo"]
    assert find_runtime("echo").family == "onnx"
    with pytest.raises(ModelkitError, match="no_such_package"):
        find_runtime("broken")
    with pytest.raises(ModelkitError, match="auto, broken"):
        find_runtime("tensorrt")


@dataclass
class Opened:
    path: Path
    format: str
    family: str
    provenance: Provenance = field(default_factory=Provenance)
    groups: int | None = None

    @property
    def graph(self):
        weight = {"weight": Parameter("w", (8, 8, 1), "int8", 64, "int8 per-channel")}
        attributes = {"groups": self.groups, "padding": ((0, 0),)} if self.groups else {}
        return Graph((Node("layer", "conv" if self.groups else "linear", "Op", ("x",), ("y",), weight, attributes),), {}, (), ())

    def save(self, path):
        path.write_text(f"saved {self.family}")


ONNX, PT2, SCRIPT = (Opened(Path(f"m.{f}"), f, "onnx" if f == "onnx" else "torch") for f in ("onnx", "pt2", "torchscript"))
HISTORY = [{"pass": "quantize.rtn", "options": {"activations": "static"}}]
LINEAR, CONV, GROUPED = (
    Opened(Path("s.pt2"), "pt2", "torch", Provenance(history=HISTORY, target="vnni"), groups) for groups in (None, 1, 8)
)
WEIGHTS = Opened(Path("s.pt2"), "pt2", "torch", Provenance(history=HISTORY), 8)


@pytest.mark.parametrize(
    ("models", "name", "noted"),
    [
        ([ONNX, ONNX], "onnxruntime", False),
        ([PT2, SCRIPT], "torch", False),
        ([PT2, LINEAR], "torch", False),
        ([PT2, CONV], "torch", False),
        ([PT2, WEIGHTS], "torch", False),
        ([PT2, GROUPED], "onnxruntime", True),
        ([ONNX, PT2], "onnxruntime", True),
    ],
)
def test_one_runtime_is_chosen_for_all(models, name, noted):
    chosen, note = choose_runtime(models)
    assert chosen == name
    assert (note is not None) == noted
    assert note is None or "onnxruntime" in note


def test_on_cuda_without_its_onnxruntime_torch_is_left(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    chosen, note = choose_runtime([PT2, GROUPED], "cuda")
    assert chosen == "torch" and "onnxruntime-gpu" in note
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert choose_runtime([PT2, GROUPED], "cuda")[0] == "onnxruntime"


def test_files_are_written_only_where_needed(tmp_path):
    assert runnable_file(ONNX, find_runtime("onnxruntime"), tmp_path) == ONNX.path
    assert runnable_file(PT2, find_runtime("torch"), tmp_path) == PT2.path
    written = runnable_file(SCRIPT, find_runtime("torch"), tmp_path)
    assert written.suffix == ".pt2" and written.read_text() == "saved torch"
    assert runnable_file(SCRIPT, find_runtime("torch"), tmp_path) != written
