"""Starting contenders, each in a process of its own, and letting them take turns while the others are stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from modelkit.core.forms import Array

from .contender import Conditions, Contender
from .worker_process import WorkerProcess


@dataclass
class Started:
    """A contender whose process is ready, and what was measured of it so far.

    `blocks` are samples in milliseconds per run, one array for each turn. `load_peak` and `run_peak` are bytes of resident
    memory while it was loaded and while it first ran; `device_peak` is of an accelerator's. `run_ns` is how long a run takes,
    `stable` whether it took the same time at the end of the warm-up (None: there was no time to tell).
    """

    worker: WorkerProcess
    load_peak: int
    run_peak: int
    device_peak: int | None
    run_ns: float
    stable: bool | None
    blocks: list[Array] = field(default_factory=list)
    joules: list[float | None] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)

    def take(self, seconds: float, settle: bool) -> None:
        """A turn of so many seconds. `settle`: another contender ran since the last one."""
        with self.worker.awake():
            answer = self.worker.ask("block", seconds=seconds, settle=settle)
        self.blocks.append(np.array(answer["samples"]) / 1e6)
        self.joules.append(answer["joules"])
        if answer["clock_mhz"] is not None:
            self.clocks.append(answer["clock_mhz"])

    @property
    def samples(self) -> Array:
        return np.concatenate(self.blocks)

    def peak(self, on_device: bool) -> int | None:
        """The most memory ever held, in bytes."""
        return self.device_peak if on_device else max(self.load_peak, self.run_peak)

    @property
    def energy(self) -> float | None:
        known = [value for value in self.joules if value is not None]
        return float(np.median(known)) if known else None


@contextmanager
def launched(
    contenders: Sequence[Contender],
    conditions: Conditions,
    order: Sequence[int],
    warm_up_seconds: float,
    cpus: Sequence[int] | None = None,
    progress: Callable[[str, float], None] = lambda what, part: None,
) -> Iterator[list[Started]]:
    """All contenders (in their own order), loaded and warmed up in `order`, and stopped; their processes end with the context."""
    workers: dict[int, WorkerProcess] = {}
    try:
        for index in order:  # all load at the same time, as nothing is timed yet
            it = contenders[index]
            workers[index] = WorkerProcess(it.name, conditions.threads)
            workers[index].send(
                "load", runtime=it.runtime, path=str(it.file), device=conditions.device, threads=conditions.threads, cpus=cpus
            )
        peaks = {}
        for done, index in enumerate(order):
            progress("loading", done / len(order))
            peaks[index] = workers[index].receive()["peak"]
            workers[index].pause()
        started: dict[int, Started] = {}
        for done, index in enumerate(order):
            progress("warming up", done / len(order))
            with workers[index].awake():
                warm = workers[index].ask("warm_up", feeds=str(contenders[index].feeds), seconds=warm_up_seconds)
            started[index] = Started(
                workers[index], peaks[index], warm["peak"], warm["device_peak"], warm["run_ns"], warm["stable"]
            )
        yield [started[index] for index in range(len(contenders))]
    finally:
        for worker in workers.values():
            worker.close()
