"""torch.compile: the exported program compiled by inductor, with its weights frozen into the code; on CUDA as a CUDA graph, since
launching kernels one by one can take longer than they do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelkit.core.errors import ModelkitError

from .torch import ProgramRunner, Torch, load_program


def cxx_compiler() -> str | None:
    """The C++ compiler that inductor will call: $CXX, or the first usual name found on the path."""
    return next((name for name in (os.environ.get("CXX"), "g++", "clang++", "cl") if name and shutil.which(name)), None)


class TorchCompile(Torch):
    name = "compile"

    def available(self) -> str | None:
        if reason := super().available():
            return reason
        if cxx_compiler() is None:
            return "Install a C++ compiler (g++ or clang++) or name one in $CXX: torch.compile generates C++."
        return None

    def load(self, path: Path, device: str, threads: int) -> ProgramRunner:
        if reason := self.available():
            raise ModelkitError("torch.compile can't be used here.", reason)
        self.check_device(device)
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compiler processes beside what is measured
        import torch

        program = load_program(path, device, threads)
        options: dict[str, Any] = {"freezing": True, "triton.cudagraphs": device == "cuda"}
        compiled = torch.compile(program.module(), dynamic=False, options=options)
        return CompiledRunner(program, compiled, path, device)


class CompiledRunner(ProgramRunner):
    """Layers were fused into kernels, so a profile shows those."""

    def _by_layer(self) -> Callable[[], Any]:
        arguments, keywords = self._prepared
        return lambda: self._function(*arguments, **keywords)

    def _events(self, averages: Any) -> list[tuple[str, str, float]]:
        on_device = self._device == "cuda"
        times = ((it.key, it.self_device_time_total if on_device else it.self_cpu_time_total) for it in averages)
        return [(key, key.partition("::")[0], taken / 1000) for key, taken in times if taken > 0]
