"""ONNX Runtime, on the CPU or with its CUDA execution provider. Never imports torch."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.model import Feeds

from .runtime import Clock, match, operator_times, repeat

ERRORS_ONLY = 3
PROFILED_RUNS = 50  # traces of more are slow to open


def create_session(model: Path | bytes, threads: int, device: str = "cpu", profile: Path | None = None) -> Any:
    """An onnxruntime.InferenceSession as users create it: all optimisations, and thread pools that spin while they wait.

    `profile`: the start of the name of a trace that it writes. Raises ModelkitError when the device is missing or ONNX Runtime
    refuses the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    providers = ["CPUExecutionProvider"]
    if device == "cuda":
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # finds the CUDA and cuDNN that pip installed, which torch would otherwise have loaded
        providers.insert(0, "CUDAExecutionProvider")
    name = model.name if isinstance(model, Path) else "the model"
    try:
        session = onnxruntime.InferenceSession(str(model) if isinstance(model, Path) else model, options, providers=providers)
    except Exception as error:  # its exception classes share no ancestor
        raise ModelkitError(
            f"ONNX Runtime {onnxruntime.__version__} can't run {name}: {_first_line(error)}",
            "Check the file with `onnx.checker`, or update onnxruntime if it is too old for the model's opset.",
        ) from error
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise ModelkitError(
            "ONNX Runtime could not start CUDA and would have used the CPU.",
            "Check `nvidia-smi` and that the CUDA and cuDNN versions are those onnxruntime-gpu wants, or use --device cpu.",
        )
    return session


class OnnxRuntime:
    name = "onnxruntime"
    family: Literal["onnx"] = "onnx"

    def available(self) -> str | None:
        return None if find_spec("onnxruntime") else "Install it with `pip install onnxruntime`."

    def check_device(self, device: str) -> None:
        if device != "cuda":
            return
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ModelkitError(
                "This ONNX Runtime has no CUDA support.",
                "Replace onnxruntime with onnxruntime-gpu on a machine with an NVIDIA GPU, or use --device cpu.",
            )

    def load(self, path: Path, device: str, threads: int) -> SessionRunner:
        self.check_device(device)
        return SessionRunner(create_session(path, threads, device), path, device, threads)


class SessionRunner:
    """A session with feeds at hand. On CUDA the inputs and outputs are bound to device memory."""

    def __init__(self, session: Any, path: Path, device: str, threads: int = 0) -> None:
        self._session = session
        self._path = path
        self._device = device
        self._threads = threads
        self._inputs = [value.name for value in session.get_inputs()]
        self._outputs = [value.name for value in session.get_outputs()]
        self._feeds: dict[str, Array] = {}
        self._binding: Any = None

    def run(self, feeds: Feeds) -> list[Array]:
        try:
            outputs = self._session.run(self._outputs, self._matched(feeds))
        except Exception as error:
            raise ModelkitError(
                f"{self._path.name} failed to run: {_first_line(error)}", "Check the inputs' names, types and shapes."
            ) from error
        return [np.asarray(output) for output in outputs]

    def prepare(self, feeds: Feeds) -> None:
        self.run(feeds)  # a wrong feed is reported here, before anything is timed
        self._feeds = self._matched(feeds)
        if self._device == "cuda":
            import onnxruntime

            self._binding = self._session.io_binding()
            for name, array in self._feeds.items():
                self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0))
            for name in self._outputs:
                self._binding.bind_output(name, "cuda")

    def timed(self, runs: int, clock: Clock) -> int:
        if self._binding is not None:  # run_with_iobinding returns when the GPU is done
            return repeat(lambda: self._session.run_with_iobinding(self._binding), runs, clock)
        run, outputs, feeds = self._session.run, self._outputs, self._feeds
        return repeat(lambda: run(outputs, feeds), runs, clock)

    def device_memory(self) -> int | None:
        return None

    def profile(self, trace: Path, seconds: float) -> list[dict[str, Any]]:
        self._session = None  # two sessions would fight for the cores
        self._binding = None
        with tempfile.TemporaryDirectory(prefix="modelkit-profile-") as folder:
            session = create_session(self._path, self._threads, self._device, Path(folder) / "trace")
            end, runs = time.perf_counter() + seconds, 0
            while runs < PROFILED_RUNS and (runs < 2 or time.perf_counter() < end):
                session.run(self._outputs, self._feeds)
                runs += 1
            shutil.move(session.end_profiling(), trace)
        self._session = create_session(self._path, self._threads, self._device)
        events = [event for event in json.loads(trace.read_text()) if event.get("cat") == "Node"]
        kernels = [event for event in events if event["name"].endswith("_kernel_time")]
        return operator_times(
            ((e["name"].removesuffix("_kernel_time"), e["args"].get("op_name", ""), e["dur"] / 1000) for e in kernels), runs
        )

    def _matched(self, feeds: Feeds) -> dict[str, Array]:
        return {name: np.ascontiguousarray(array) for name, array in match(feeds, self._inputs, self._path).items()}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
