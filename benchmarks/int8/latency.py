"""Latencies of several ONNX files in ONNX Runtime, taken so that they can be compared."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelkit.bench.contender import Conditions, Contender
from modelkit.bench.launch import launched
from modelkit.bench.measure import take_turns
from modelkit.bench.worker import write_arrays


@dataclass(frozen=True)
class Latency:
    """Milliseconds: the median of each round, and the least of all samples."""

    medians: np.ndarray
    least: float

    @property
    def median(self) -> float:
        return float(np.median(self.medians))

    def every_other(self, start: int) -> Latency:
        """Of every other round, from the one with number `start`."""
        return Latency(self.medians[start::2], self.least)

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
        rng = np.random.default_rng(0)
        for _ in range(rounds):
            for name, samples in _round(models, file, threads, seconds, rng).items():
                medians[name].append(float(np.median(samples)))
                least[name] = min(least[name], float(samples.min()))
    return {name: Latency(np.array(medians[name]), least[name]) for name in models}


def _round(
    models: Mapping[str, Path], feeds: Path, threads: int, seconds: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    contenders = [Contender(name, "onnxruntime", path.resolve(), feeds, 1) for name, path in models.items()]
    order = rng.permutation(len(contenders)).tolist()
    with launched(contenders, Conditions("cpu", threads, (1,)), order, min(2.0, seconds)) as started:
        take_turns(started, seconds, time.monotonic, rng, lambda part: None)
        return {contender.name: it.samples for contender, it in zip(contenders, started, strict=True)}
