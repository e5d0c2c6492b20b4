"""OpenVINO as a runtime of modelkit: a class for the entry point, and one for a model that it loaded."""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modelkit.core.errors import ModelkitError
from modelkit.runtimes.runtime import Clock, match, operator_times, repeat

PROFILED_RUNS = 50


class OpenVino:
    name = "openvino"
    family: Literal["onnx"] = "onnx"

    def available(self) -> str | None:
        return None if find_spec("openvino") else "Install it with `pip install openvino`."

    def check_device(self, device: str) -> None:
        if device != "cpu":
            raise ModelkitError("This plugin runs OpenVINO on the CPU only.", "Use --device cpu.")

    def load(self, path: Path, device: str, threads: int) -> CompiledRunner:
        self.check_device(device)
        return CompiledRunner(_compiled(path, threads, profile=False), path, threads)


def _compiled(path: Path, threads: int, profile: bool) -> Any:
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERF_COUNT": profile,
    }
    try:
        return openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ModelkitError(
            f"OpenVINO {openvino.__version__} can't run {path.name}: {lines[-1] if lines else error}",
            "Update openvino, or use another --runtime.",
        ) from error


class CompiledRunner:
    def __init__(self, compiled: Any, path: Path, threads: int) -> None:
        self._compiled = compiled
        self._path = path
        self._threads = threads
        self._request = compiled.create_infer_request()  # for timing: its inputs are shared, so their shapes stay
        self._inputs = [port.any_name for port in compiled.inputs]
        self._feeds: dict[str, Any] = {}

    def run(self, feeds: Any) -> list[np.ndarray]:
        try:
            results = self._compiled.create_infer_request().infer(self._matched(feeds))
        except RuntimeError as error:
            lines = str(error).strip().splitlines()
            raise ModelkitError(
                f"{self._path.name} failed to run in OpenVINO: {lines[-1]}", "Check the inputs' names, types and shapes."
            ) from error
        return [np.array(results[port]) for port in self._compiled.outputs]

    def prepare(self, feeds: Any) -> None:
        self.run(feeds)  # a wrong feed is reported here, before anything is timed
        self._feeds = self._matched(feeds)

    def timed(self, runs: int, clock: Clock) -> int:
        infer, feeds = self._request.infer, self._feeds
        return repeat(lambda: infer(feeds, share_inputs=True, share_outputs=True), runs, clock)

    def device_memory(self) -> int | None:
        return None

    def profile(self, trace: Path, seconds: float) -> list[dict[str, Any]]:
        """OpenVINO counts, but writes no trace: it is laid out here from the counts of each run."""
        request = _compiled(self._path, self._threads, profile=True).create_infer_request()
        events: list[tuple[str, str, float]] = []
        chrome, at, runs = [], 0.0, 0
        end = time.perf_counter() + seconds
        while runs < PROFILED_RUNS and (runs < 2 or time.perf_counter() < end):
            request.infer(self._feeds)
            runs += 1
            for counted in request.profiling_info:
                microseconds = counted.real_time.total_seconds() * 1e6
                if not microseconds:
                    continue
                events.append((counted.node_name, counted.node_type, microseconds / 1000))
                chrome.append(
                    {
                        "name": counted.node_name,
                        "cat": counted.node_type,
                        "ph": "X",
                        "ts": at,
                        "dur": microseconds,
                        "pid": 1,
                        "tid": 1,
                    }
                )
                at += microseconds
        trace.write_text(json.dumps({"traceEvents": chrome}))
        return operator_times(events, runs)

    def _matched(self, feeds: Any) -> dict[str, Any]:
        return {name: np.ascontiguousarray(array) for name, array in match(feeds, self._inputs, self._path).items()}
