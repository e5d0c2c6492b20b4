"""The machine and the software that a figure was measured with. Needs no torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .cpu import cpu_name, instruction_sets, memory_bytes, physical_cores, target_isa, usable_cores

__all__ = ["environment", "gpu_name", "package_version", "target_isa", "usable_cores"]

PACKAGES = (
    "modelkit",
    "numpy",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxscript",
    "onnx-ir",
    "safetensors",
    "transformers",
)
NVIDIA = Path("/proc/driver/nvidia/gpus")


def environment(device: str = "cpu") -> dict[str, Any]:
    """The report's `environment`. `cores` are those that this process may use; `physical_cores` are the machine's."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "isa": list(instruction_sets()),
        "cores": usable_cores(),
        "physical_cores": physical_cores(),
        "memory_bytes": memory_bytes(),
        "gpu": gpu_name(device),
        "packages": {name: found for name in PACKAGES if (found := package_version(name)) is not None},
    }


def package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def gpu_name(device: str = "cpu") -> str | None:
    """The first NVIDIA GPU's name. torch is asked only where it is loaded already, or where `device` is "cuda"."""
    if device == "cuda" or "torch" in sys.modules:
        try:
            import torch
        except ImportError:
            pass
        else:
            if torch.cuda.is_available():
                return str(torch.cuda.get_device_name())
    return _from_driver() or _from_nvidia_smi()


def _from_driver() -> str | None:
    if not NVIDIA.is_dir():
        return None
    for information in sorted(NVIDIA.glob("*/information")):
        try:
            fields = dict(line.split(":", 1) for line in information.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if name := fields.get("Model", "").strip():
            return name
    return None


def _from_nvidia_smi() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next(iter(found.stdout.splitlines()), None) if found.returncode == 0 else None
