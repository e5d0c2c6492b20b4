"""The quantisers that are held against each other, each as the command line that a user would run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .process import Cost, cost

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"
ENVIRONMENT = HERE.parent / ".peers"
PACKAGES = ("nncf", "onnx", "onnxruntime", "sympy")
OURS = "modelkit"
NNCF = "NNCF"

# What `modelkit quantize m.onnx --calib c.npz` imports.
_OUR_IMPORTS = (
    "import numpy.random, onnx, onnxruntime, psutil, pydantic.json_schema, typer; import modelkit.quantize.pipeline, "
    "modelkit.cli.quantize, modelkit.cli.session, modelkit.data, modelkit.models.onnx.model, modelkit.models.opening, "
    "modelkit.bench.quick; from modelkit.cli.app import build; typer.main.get_command(build('quantize'))"
)
# Memory is measured above that of the libraries, imported and used once: until then much of their code is not loaded.
_USE_ONCE = """
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
    """`command` takes model, calibration data, output file and threads; `libraries` loads the same libraries and does next to
    nothing with them."""

    name: str
    command: Callable[[Path, Path, Path, int], list[str]]
    libraries: list[str]

    def run(self, model: Path, calibration: Path, out: Path, threads: int) -> Cost:
        return cost(self.command(model, calibration, out, threads))

    def libraries_peak(self) -> int:
        return cost(self.libraries).peak_bytes


def tools(exact_sums: bool, encoder: bool) -> list[Tool]:
    """`exact_sums`: whether this processor adds u8 · s8 without saturating; where not, a user of ONNX Runtime's quantiser would
    try reduce_range too. `encoder`: a user of NNCF would name the model's type too."""
    onnxruntime = ("onnxruntime_static.py", "import onnxruntime.quantization.shape_inference")
    nncf = ("nncf_int8.py", "import nncf, nncf.onnx")
    chosen = [
        Tool(OURS, _modelkit, [sys.executable, "-c", _OUR_IMPORTS + _USE_ONCE]),
        _peer("ONNX Runtime", *onnxruntime),
        _peer(NNCF, *nncf),
    ]
    if not exact_sums:
        chosen.insert(2, _peer("ONNX Runtime, reduce_range", *onnxruntime, "--reduce-range"))
    if encoder:
        chosen.append(_peer(f"{NNCF}, transformer", *nncf, "--transformer"))
    return chosen


def _modelkit(model: Path, calibration: Path, out: Path, threads: int) -> list[str]:
    own = [sys.executable, "-m", "modelkit", "quantize", str(model), "--calib", str(calibration), "-o", str(out)]
    return [*own, "--threads", str(threads), "--force", "--quiet"]


def _peer(name: str, script: str, imports: str, *flags: str) -> Tool:
    python = str(_interpreter())
    start = [python, str(PEERS / script)]
    return Tool(
        name, lambda model, calib, out, _: [*start, str(model), str(calib), str(out), *flags], [python, "-c", imports + _USE_ONCE]
    )


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
