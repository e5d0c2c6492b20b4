"""What a measurement is, as reports show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.model import Model

from .statistics import Interval, mean_interval, median_interval


@dataclass(frozen=True)
class Subject:
    """A model to be measured, under the name that reports and errors give it."""

    name: str
    model: Model

    @property
    def path(self) -> Path:
        return self.model.path


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one run. `ci95` is of the median; `samples` are in the order they were taken."""

    p50: float
    p90: float
    p99: float
    mean: float
    min: float
    ci95: Interval
    n: int
    samples: list[float]

    @classmethod
    def of(cls, blocks: Sequence[Array], rng: np.random.Generator) -> Latency:
        """Of samples in milliseconds, in the blocks that they were taken in."""
        samples = np.concatenate(blocks)
        p50, p90, p99 = (float(value) for value in np.percentile(samples, (50, 90, 99)))
        interval = median_interval(blocks, rng)
        return cls(p50, p90, p99, float(samples.mean()), float(samples.min()), interval, samples.size, samples.tolist())


@dataclass(frozen=True)
class Throughput:
    """Samples per second: the batch size over the mean latency."""

    value: float
    ci95: Interval

    @classmethod
    def of(cls, blocks: Sequence[Array], batch_size: int, rng: np.random.Generator) -> Throughput:
        """Of latencies in milliseconds, in the blocks that they were taken in."""
        low, high = mean_interval(blocks, rng)
        return cls(1000 * batch_size / float(np.concatenate(blocks).mean()), (1000 * batch_size / high, 1000 * batch_size / low))


@dataclass(frozen=True)
class Quality:
    """A metric over `n` samples."""

    value: float
    ci95: Interval
    n: int


@dataclass(frozen=True)
class Measurement:
    """One model in one runtime at one batch size.

    `peak_memory_bytes`: on the CPU the peak resident set of a fresh process that loaded and ran the model, interpreter and
    runtime library included; on CUDA the peak of the device memory, None where the runtime does not count it.
    `energy_j`: joules that the whole processor used per run, None where its counters can't be read.
    """

    model: str
    runtime: str
    device: str
    threads: int
    batch_size: int
    latency_ms: Latency
    throughput_per_s: Throughput
    peak_memory_bytes: int | None
    energy_j: float | None
    quality: dict[str, Quality] = field(default_factory=dict)
