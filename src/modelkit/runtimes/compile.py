"""torch.compile: the exported program compiled by inductor, with its weights frozen into the code; on CUDA as a CUDA graph, since
launching kernels one by one can take longer than they do."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modelkit.core.errors import ModelkitError
from modelkit.core.model import Feeds

from .torch import ProgramRunner, Torch, load_program

_TRIED = 10  # runs of each function


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
        modules = [program.module()]
        if device == "cuda":
            from .semi_structured import semi_structured

            if (sparse := semi_structured(modules[0])) is not None:
                modules.append(sparse)
        options: dict[str, Any] = {"freezing": True, "triton.cudagraphs": device == "cuda"}
        return CompiledRunner(program, [torch.compile(it, dynamic=False, options=options) for it in modules], path, device)


class CompiledRunner(ProgramRunner):
    """Runs the fastest of the `functions`, which compute the same, on the feeds that it is prepared for. Layers were fused into
    kernels, so a profile shows those."""

    def __init__(self, program: Any, functions: Sequence[Callable[..., Any]], path: Path, device: str) -> None:
        super().__init__(program, functions[0], path, device)
        self._functions = functions

    def prepare(self, feeds: Feeds) -> None:
        times = []
        for function in self._functions:
            self._function = function
            super().prepare(feeds)
            if len(self._functions) > 1:
                self.timed(_TRIED, time.perf_counter_ns)  # warms up
                times.append(self.timed(_TRIED, time.perf_counter_ns))
        if times:
            self._function = self._functions[times.index(min(times))]

    def _by_layer(self) -> Callable[[], Any]:
        arguments, keywords = self._prepared
        return lambda: self._function(*arguments, **keywords)

    def _events(self, averages: Any) -> list[tuple[str, str, float]]:
        on_device = self._device == "cuda"
        times = ((it.key, it.self_device_time_total if on_device else it.self_cpu_time_total) for it in averages)
        return [(key, key.partition("::")[0], taken / 1000) for key, taken in times if taken > 0]
