"""In which numbers the products of a training step are computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "float16"]
_FASTER = 0.9  # bfloat16 must take at most this share of the time


def autocast(precision: str, device: str) -> AbstractContextManager[object]:
    """Inside, matrix products and convolutions are computed in `precision`; weights and losses stay in float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, precision))


def choose(asked: str, device: str, step: Callable[[str], torch.Tensor]) -> Precision:
    """`asked`, or for "auto" what suits the device: on CUDA bfloat16 where it has it, else float16; on a CPU with bfloat16
    products that, if `step(precision)` (a forward and backward pass that gives its loss) is measured faster with it and gives
    about the same."""
    if asked == "auto":
        if device.startswith("cuda"):
            return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return "bfloat16" if _cpu_gains(step) else "float32"
    assert asked in ("float32", "bfloat16", "float16")
    return asked  # type: ignore[return-value]


def _cpu_gains(step: Callable[[str], torch.Tensor]) -> bool:
    from modelkit.bench.cpu import instruction_sets

    if not {"avx512_bf16", "amx_bf16", "bf16"} & set(instruction_sets()):
        return False
    try:
        half, narrow = _timed(step, "bfloat16")
    except RuntimeError:  # an operator of the program has no such kernel
        return False
    full, wide = _timed(step, "float32")
    return bool(torch.isfinite(narrow)) and half < _FASTER * full and abs(float(narrow - wide)) <= 0.1 * abs(float(wide)) + 1e-3


def _timed(step: Callable[[str], torch.Tensor], precision: str) -> tuple[float, torch.Tensor]:
    """The better of two times, after a first run that prepares kernels."""
    loss = step(precision)
    times = []
    for _ in range(2):
        started = time.perf_counter()
        loss = step(precision)
        times.append(time.perf_counter() - started)
    return min(times), loss
