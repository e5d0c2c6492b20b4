"""The command line as users run it, and a small model with data to run it on."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelkit.cli.app import main


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def report(self):
        return json.loads(self.out)


@pytest.fixture
def modelkit(capsys, tmp_path, monkeypatch):
    """Run a command in this process, in an empty folder: `modelkit("quantize", "m.onnx")` → Outcome."""
    monkeypatch.chdir(tmp_path)

    def run(*words) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(ended.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def refused(modelkit):
    """Run a command that must fail with exit 2: one line of what is wrong, one of what to do. Returns the message."""

    def run(*words) -> str:
        before = {path: path.read_bytes() for path in Path.cwd().iterdir() if path.is_file()}
        outcome = modelkit(*words)
        assert outcome.code == 2, outcome.err
        # What takes over a second on a busy machine says what it is doing.
        errors = [line for line in outcome.err.splitlines() if not line.startswith("warning:") and not line.endswith(" …")]
        assert len(errors) == 2 and errors[0].startswith("error: ") and errors[1].startswith("  help: "), outcome.err
        assert outcome.out == ""
        after = {path: path.read_bytes() for path in Path.cwd().iterdir() if path.is_file()}
        assert before == after, "a failed command left or changed files"
        return outcome.err

    return run


def in_new_process(*words, input=None, cwd=None, python="-m"):
    """The real entry point in a fresh interpreter."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, python, "modelkit", *map(str, words)]
    done = subprocess.run(command, input=input, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)
    return Outcome(done.returncode, done.stdout, done.stderr)


def small_network(seed=0) -> onnx.ModelProto:
    """Conv-ReLU-Conv-ReLU-pool-Linear on (N, 3, 8, 8), 10 classes, opset 17."""
    rng = np.random.default_rng(seed)

    def constant(name, *shape):
        return numpy_helper.from_array((rng.standard_t(4, shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "c1.weight", "c1.bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["ar"]),
        helper.make_node("Conv", ["ar", "c2.weight", "c2.bias"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["b"], ["br"]),
        helper.make_node("GlobalAveragePool", ["br"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["logits"], transB=1),
    ]
    weights = [
        constant("c1.weight", 16, 3, 3, 3),
        constant("c1.bias", 16),
        constant("c2.weight", 32, 16, 3, 3),
        constant("c2.bias", 32),
        constant("fc.weight", 10, 32),
        constant("fc.bias", 10),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(small_network(), path)
    return path


@pytest.fixture
def calib(tmp_path) -> Path:
    path = tmp_path / "c.npz"
    np.savez(path, x=np.random.default_rng(1).standard_normal((24, 3, 8, 8)).astype(np.float32))
    return path


@pytest.fixture
def labelled(tmp_path, model) -> Path:
    """Test data whose labels are the model's own answers: the original is right on all of them."""
    import onnxruntime

    x = np.random.default_rng(2).standard_normal((64, 3, 8, 8)).astype(np.float32)
    (logits,) = onnxruntime.InferenceSession(str(model)).run(None, {"x": x})
    path = tmp_path / "t.npz"
    np.savez(path, x=x, y=logits.argmax(1))
    return path
