"""What this machine can run, and what would make it faster. Fast: nothing heavy is imported."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from modelkit.core.errors import ModelkitError
from modelkit.runtimes.registry import find_runtime, runtime_names

from .cpu import target_isa

LITTLE_MEMORY = 4 << 30
LITTLE_DISK = 2 << 30


def advice(environment: dict[str, Any]) -> list[str]:
    """Sentences for the user, about modelkit.bench.environment's dict: first what works, then what could be better."""
    questions: tuple[Callable[[dict[str, Any]], list[str]], ...] = (_runtimes, _processor, _gpu, _cores, _memory, _disk)
    return [sentence for question in questions for sentence in question(environment)]


def _runtimes(environment: dict[str, Any]) -> list[str]:
    works, missing = [], []
    for name in runtime_names():
        try:
            reason = find_runtime(name).available()
        except ModelkitError as error:
            reason = f"{error.what} {error.fix}"
        if reason is None:
            works.append(name)
        else:
            missing.append(f"The runtime {name} can't be used: {reason}")
    return [f"Runtimes that work here: {', '.join(works) or 'none'}.", *missing]


def _processor(environment: dict[str, Any]) -> list[str]:
    isa = tuple(environment["isa"])
    target = target_isa(isa)
    if target == "vnni":
        extra = " bf16 matrix products are fast too." if {"avx512_bf16", "amx_bf16"} & set(isa) else ""
        return [f"The CPU multiplies int8 natively (VNNI): int8 models are up to about 3 times as fast as float32.{extra}"]
    if target == "avx2":
        return [
            "The CPU has AVX2 but no VNNI: int8 gains less (about 2 times at best), and weights take somewhat wider grids, on "
            "which 16-bit sums don't overflow; a CPU with VNNI (Intel from 2019 on, AMD from Zen 4) needs neither."
        ]
    if target == "neon":
        if "dotprod" in isa or "i8mm" in isa:
            return ["The CPU has Arm's int8 dot products: int8 models are faster than float32."]
        return ["The CPU is an Arm without dot product instructions: int8 saves memory, but hardly any time."]
    return ["The CPU has no vector instructions for int8 that are known here: int8 saves memory, but maybe no time."]


def _gpu(environment: dict[str, Any]) -> list[str]:
    gpu, packages = environment["gpu"], environment["packages"]
    if gpu is None:
        return ["No NVIDIA GPU was found: --device cuda can't be used."]
    found = [f"GPU: {gpu}."]
    if "onnxruntime-gpu" not in packages:
        found.append("ONNX Runtime can't use the GPU: replace onnxruntime with onnxruntime-gpu for --device cuda.")
    if "+cpu" in packages.get("torch", ""):
        found.append("This PyTorch was built without CUDA: install a CUDA build for --device cuda.")
    return found


def _cores(environment: dict[str, Any]) -> list[str]:
    cores, physical = environment["cores"], environment["physical_cores"]
    if cores < physical:
        return [f"Only {cores} of {physical} cores may be used here (affinity or container limits): figures are for those."]
    if cores < 4:
        return [f"There are only {cores} cores: close other programs while measuring, as each of them shows in the figures."]
    return []


def _memory(environment: dict[str, Any]) -> list[str]:
    memory = environment["memory_bytes"]
    if memory < LITTLE_MEMORY:
        return [f"There are only {memory / 2**30:.1f} GiB of memory: use small batches, and few calibration samples."]
    return []


def _disk(environment: dict[str, Any]) -> list[str]:
    found = []
    for folder, use in ((tempfile.gettempdir(), "converted models and temporary files"), (".", "results written here")):
        free = shutil.disk_usage(folder).free
        if free < LITTLE_DISK:
            found.append(f"Only {free / 2**30:.1f} GiB are free in {folder} for {use}: free some, or set TMPDIR to another disk.")
    return found
