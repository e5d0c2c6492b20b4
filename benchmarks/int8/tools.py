"""The quantisers that are held against each other, each as the command line that a user would run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .process import Cost, cost, libraries

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"
ENVIRONMENT = HERE.parent / ".peers"
PACKAGES = ("nncf", "onnx", "onnxruntime", "sympy")
OURS = "modelkit"
NNCF = "NNCF"

# Memory is measured above that of the libraries, imported and used once: until then they have not set themselves up. Some modules
# can't be imported by the name that they go by.
_IMPORT_AND_USE_ONCE = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
import numpy, onnx, onnxruntime
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
conv, x = make_node("Conv", ["x", "w"], ["y"]), make_tensor_value_info("x", 1, [1, 3, 8, 8])
weight = onnx.numpy_helper.from_array(numpy.ones((8, 3, 3, 3), "f"), "w")
graph = make_graph([conv], "g", [x], [make_tensor_value_info("y", 1, None)], [weight])
model = make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=9)
onnx.shape_inference.infer_shapes(model)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
session.run(None, {"x": numpy.ones((1, 3, 8, 8), "f")})
"""


@dataclass(frozen=True)
class Tool:
    """`command` takes model, calibration data, output file and threads, and runs in the interpreter `python`."""

    name: str
    python: str
    command: Callable[[Path, Path, Path, int], list[str]]

    def run(self, model: Path, calibration: Path, out: Path, threads: int) -> Cost:
        return cost(self.command(model, calibration, out, threads))

    def libraries_peak(self, model: Path, calibration: Path, out: Path, threads: int) -> int:
        """Peak memory of a process that imports all that the command imports and does next to nothing with it, and the libraries'
        code that only the command uses."""
        used = libraries(self.command(model, calibration, out, threads))
        idle = [self.python, "-c", _IMPORT_AND_USE_ONCE, *used.modules]
        return cost(idle).peak_bytes + max(0, used.code_bytes - libraries(idle).code_bytes)


def tools(exact_sums: bool, encoder: bool) -> list[Tool]:
    """`exact_sums`: whether this processor adds u8 · s8 without saturating; where not, a user of ONNX Runtime's quantiser would
    try reduce_range too. `encoder`: a user of NNCF would name the model's type too."""
    onnxruntime, nncf = "onnxruntime_static.py", "nncf_int8.py"
    chosen = [Tool(OURS, sys.executable, _modelkit), _peer("ONNX Runtime", onnxruntime), _peer(NNCF, nncf)]
    if not exact_sums:
        chosen.insert(2, _peer("ONNX Runtime, reduce_range", onnxruntime, "--reduce-range"))
    if encoder:
        chosen.append(_peer(f"{NNCF}, transformer", nncf, "--transformer"))
    return chosen


def _modelkit(model: Path, calibration: Path, out: Path, threads: int) -> list[str]:
    own = [sys.executable, "-m", "modelkit", "quantize", str(model), "--calib", str(calibration), "-o", str(out)]
    return [*own, "--threads", str(threads), "--force", "--quiet"]


def _peer(name: str, script: str, *flags: str) -> Tool:
    python = str(_interpreter())
    start = [python, str(PEERS / script)]
    return Tool(name, python, lambda model, calib, out, _: [*start, str(model), str(calib), str(out), *flags])


def install_peers() -> dict[str, str]:
    """Make the peers' own environment unless it is there. The versions in it by package."""
    python = _interpreter()
    versions = [str(python), "-c", f"from importlib.metadata import version\nfor p in {PACKAGES}: print(p, version(p))"]
    found = subprocess.run(versions, capture_output=True, text=True) if python.exists() else None
    if found is None or found.returncode:
        print(f"installing {', '.join(PACKAGES)} into {ENVIRONMENT.name} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        found = subprocess.run(versions, capture_output=True, text=True, check=True)
    return dict(line.split() for line in found.stdout.splitlines())


def _interpreter() -> Path:
    return ENVIRONMENT / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
