"""Latencies of several ONNX files in ONNX Runtime, taken so that they can be compared."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelkit.bench.measure import Turns, take_turns
from modelkit.bench.worker import write_arrays
from modelkit.bench.worker_process import WorkerProcess


@dataclass(frozen=True)
class Latency:
    """Milliseconds: the median of each round, and the least of all samples."""

    medians: np.ndarray
    least: float

    @property
    def median(self) -> float:
        return float(np.median(self.medians))

    def ratio(self, other: Latency) -> tuple[float, float, float]:
        """self / other: the median over rounds, and the smallest and largest."""
        ratios = self.medians / other.medians
        return float(np.median(ratios)), float(ratios.min()), float(ratios.max())


def latencies(
    models: Mapping[str, Path], feeds: Mapping[str, np.ndarray], threads: int, rounds: int, seconds: float
) -> dict[str, Latency]:
    """Each model runs in a process of its own, fresh in every round; within a round they take turns in short blocks, the others
    stopped, `seconds` for each. Thread pools spin, as they do for users."""
    medians: dict[str, list[float]] = {name: [] for name in models}
    least = dict.fromkeys(models, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "feeds.npz"
        write_arrays(file, dict(feeds))
        for _ in range(rounds):
            for name, samples in _round(models, file, threads, seconds).items():
                medians[name].append(float(np.median(samples)))
                least[name] = min(least[name], float(samples.min()))
    return {name: Latency(np.array(medians[name]), least[name]) for name in models}


def _round(models: Mapping[str, Path], feeds: Path, threads: int, seconds: float) -> dict[str, np.ndarray]:
    with ExitStack() as stack:
        turns = {}
        for name, path in models.items():
            worker = stack.enter_context(WorkerProcess(name, threads))
            worker.ask("load", runtime="onnxruntime", path=str(path.resolve()), device="cpu", threads=threads)
            worker.ask("warm_up", feeds=str(feeds), seconds=min(2.0, seconds))
            worker.pause()
            turns[name] = Turns(worker)
        take_turns(list(turns.values()), seconds, time.monotonic, lambda part: None)
        return {name: np.concatenate(turn.blocks) for name, turn in turns.items()}
