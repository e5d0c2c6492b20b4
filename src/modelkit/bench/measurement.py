"""What a measurement is, as reports show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.model import Model

from .energy import why_no_energy
from .statistics import Interval, mean_interval, median_interval

if TYPE_CHECKING:
    from .contender import Conditions, Contender
    from .launch import Started


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
    """Milliseconds for one run. `ci95` is of the median; `samples` are in the order they were taken. `quantiles` are those at
    0, 1, … 100 per cent: the distribution, where the samples are not kept."""

    p50: float
    p90: float
    p99: float
    mean: float
    min: float
    ci95: Interval
    n: int
    samples: list[float]
    quantiles: list[float]

    @classmethod
    def of(cls, blocks: Sequence[Array], rng: np.random.Generator) -> Latency:
        """Of samples in milliseconds, in the blocks that they were taken in."""
        samples = np.concatenate(blocks)
        p50, p90, p99 = (float(value) for value in np.percentile(samples, (50, 90, 99)))
        interval = median_interval(blocks, rng)
        quantiles = [float(f"{value:.5g}") for value in np.percentile(samples, range(101))]
        mean, least = float(samples.mean()), float(samples.min())
        return cls(p50, p90, p99, mean, least, interval, samples.size, samples.tolist(), quantiles)


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
class Profile:
    """Where the time goes: `layers` are dicts of name, op, ms (per run) and share; `trace` is a file for chrome://tracing."""

    trace: str
    layers: list[dict[str, Any]]


@dataclass(frozen=True)
class Memory:
    """Peaks of resident bytes in a fresh process, interpreter and runtime library included: while the model was loaded, and
    while it first ran. `device` is the peak on an accelerator, None where there is none or nobody counts."""

    load: int
    run: int
    device: int | None


@dataclass
class Measurement:
    """One model in one runtime at one batch size.

    `peak_memory_bytes`: on the CPU the larger peak of `memory`, on CUDA that of the device memory, None where the runtime does
    not count it. `energy_j`: joules that the whole processor or GPU used per run; `energy_reason` says why it is None.
    `starts`: how many processes were measured. `clock_mhz`: the least and the most that the GPU's clock was seen at.
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
    memory: Memory | None = None
    energy_reason: str | None = None
    starts: int = 1
    clock_mhz: tuple[int, int] | None = None
    profile: Profile | None = None


def measurement(contender: Contender, conditions: Conditions, starts: Sequence[Started], seed: int) -> Measurement:
    """All that was measured of a contender, over all of its processes. Turns are the blocks of the intervals; where there were
    several processes, all turns of one are a single block, as luck of the memory layout lasts as long as the process."""
    blocks = [start.samples for start in starts] if len(starts) > 1 else list(starts[0].blocks)
    memory = Memory(
        int(np.median([start.load_peak for start in starts])),
        int(np.median([start.run_peak for start in starts])),
        max((start.device_peak for start in starts if start.device_peak is not None), default=None),
    )
    joules = [start.energy for start in starts if start.energy is not None]
    clocks = [clock for start in starts for clock in start.clocks]
    return Measurement(
        contender.name,
        contender.runtime,
        conditions.device,
        conditions.threads,
        contender.batch_size,
        Latency.of(blocks, np.random.default_rng(seed)),
        Throughput.of(blocks, contender.batch_size, np.random.default_rng(seed)),
        max(memory.load, memory.run) if conditions.device == "cpu" else memory.device,
        float(np.median(joules)) if joules else None,
        memory=memory,
        energy_reason=None if joules else why_no_energy(conditions.device),
        starts=len(starts),
        clock_mhz=(min(clocks), max(clocks)) if clocks else None,
    )
