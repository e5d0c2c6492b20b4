"""How much faster a changed model is than its original, measured whole."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from modelkit.core.model import Feeds, Model
from modelkit.runtimes.onnxruntime import OnnxRuntime
from modelkit.runtimes.runtime import Runner

from .memory import keep_freed_blocks

_ROUNDS, _SECONDS = 9, 0.1
_RUNS, _LONG = 5, 0.5  # at least so many, unless they take longer than that: slow runs differ less
_FEW, _FAR = 4, 1.12  # rounds that tell enough of a model which is this many times off what is aimed at in each


class Speedup:
    """Original latency / new latency on one sample, in the runtime of the model's family: the median over rounds, in which the
    models take turns, of the ratio of their fastest runs. In ONNX Runtime one is loaded at a time, as the threads of two would
    fight for the cores; PyTorch's models share theirs, and load slowly, so they stay."""

    def __init__(self, original: Model, feeds: Feeds, threads: int) -> None:
        self._feeds, self._threads, self._family = feeds, threads, original.family
        self._folder = tempfile.TemporaryDirectory()
        self._held: dict[Path, Runner] = {}
        self._original = self._saved(original, "original")

    def latencies_ms(self, model: Model) -> tuple[float, float]:
        """Of the original and of the model."""
        rounds = list(self._rounds(self._saved(model, "candidate")))
        original, candidate = (min(times) for times in zip(*rounds, strict=True))
        return original, candidate

    def __call__(self, model: Model, aim: float | None = None) -> float:
        """aim: a speed-up that the measurement need not be exact far from."""
        ratios: list[float] = []
        for original, candidate in self._rounds(self._saved(model, "candidate")):
            ratios.append(original / candidate)
            if aim is not None and len(ratios) >= _FEW and (min(ratios) > aim * _FAR or max(ratios) * _FAR < aim):
                break
        return median(ratios)

    def _rounds(self, candidate: Path) -> Iterator[tuple[float, float]]:
        """Milliseconds of the original and of the candidate, which take turns at being the first."""
        for turn in range(_ROUNDS):
            first, second = (self._original, candidate) if turn % 2 == 0 else (candidate, self._original)
            times = {path: self._fastest(path) for path in (first, second)}
            yield times[self._original], times[candidate]

    def _saved(self, model: Model, name: str) -> Path:
        path = Path(self._folder.name) / f"{name}{'.onnx' if self._family == 'onnx' else '.pt2'}"
        self._held.pop(path, None)
        model.save(path)
        return path

    def _fastest(self, path: Path) -> float:
        runner = self._loaded(path)
        runner.timed(1, time.perf_counter_ns)
        samples = [runner.timed(1, time.perf_counter_ns)]
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < _SECONDS or (len(samples) < _RUNS and spent < _LONG):
            samples.append(runner.timed(1, time.perf_counter_ns))
        return sorted(samples)[len(samples) // 10] / 1e6

    def _loaded(self, path: Path) -> Runner:
        if path in self._held:
            return self._held[path]
        runner: Runner
        if self._family == "onnx":
            runner = OnnxRuntime().load(path, "cpu", self._threads)
        else:
            from modelkit.runtimes.torch import Torch

            keep_freed_blocks()
            runner = self._held[path] = Torch().load(path, "cpu", self._threads)
        runner.prepare(self._feeds)
        return runner
