"""Measuring models against each other: each in its own process, taking turns in short blocks while the others are stopped."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from modelkit.core.errors import InputWarning, ModelkitError, NoiseWarning
from modelkit.core.forms import Array
from modelkit.core.model import Feeds
from modelkit.data import Dataset
from modelkit.runtimes.choice import choose_runtime, runnable_file
from modelkit.runtimes.registry import require_runtime

from .cpu import usable_cores
from .inputs import check_batch_sizes, quality_batch_size, timing_feeds
from .measurement import Latency, Measurement, Quality, Subject, Throughput
from .noise import look, noise_before, noise_during, warn
from .quality import choose_metrics, evaluate, summarise
from .worker import write_arrays
from .worker_process import WorkerProcess

Progress = Callable[[str, float], None]  # what is being done, and the part of it that is done

DEVICES = ("cpu", "cuda")
BLOCKS = 20  # per measurement: enough for the block bootstrap, long enough to be worth switching
LEAST_SAMPLES = 5  # of a model so slow that the time would not allow for more
WARM_UP_SECONDS = 2.0


@dataclass(frozen=True)
class Setup:
    """What all models of a run have in common. Files for the workers are written in `folder`."""

    runtime: str
    device: str
    threads: int
    max_time: float
    folder: Path
    report: Progress


@dataclass
class Turns:
    """A model's worker at one batch size, and what was measured so far: samples in milliseconds for each block."""

    worker: WorkerProcess
    blocks: list[Array] = field(default_factory=list)
    joules: list[float | None] = field(default_factory=list)

    def take(self, seconds: float, settle: bool) -> None:
        with self.worker.awake():
            answer = self.worker.ask("block", seconds=seconds, settle=settle)
        self.blocks.append(np.array(answer["samples"]) / 1e6)
        self.joules.append(answer["joules"])

    @property
    def energy(self) -> float | None:
        known = [value for value in self.joules if value is not None]
        return float(np.median(known)) if known else None


def measure(
    models: Sequence[Subject],
    runtime: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    batch_sizes: Sequence[int] | None = None,
    max_time: float = 3.0,
    dataset: Dataset | None = None,
    metrics: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Latency, throughput, memory, energy and (with a dataset) quality of every model at every batch size, all in one runtime.

    `threads` None means one per usable core, `batch_sizes` None 1 (or the size that a model fixes), `max_time` is in seconds
    for each model and batch size. The first model is the original for metrics that compare. The result is ordered by batch
    size, then as the models were given. Warns with NoiseWarning. Raises ModelkitError before anything is measured when the
    runtime, device, batch sizes, data or metrics don't suit the models; later when a worker fails.
    """
    report = progress or (lambda what, part: None)
    if not models:
        raise ModelkitError("There is no model to measure.", "Give at least one.")
    if device not in DEVICES:
        raise ModelkitError(f"There is no device {device!r}.", f"Use --device {' or '.join(DEVICES)}.")
    if runtime == "auto":
        runtime, note = choose_runtime([subject.model for subject in models])
        if note:
            warnings.warn(InputWarning(note), stacklevel=2)
    chosen = require_runtime(runtime, device)
    cores = usable_cores()
    threads = threads or cores
    graphs = [subject.model.graph for subject in models]
    sizes = check_batch_sizes([subject.name for subject in models], graphs, batch_sizes)
    wanted = choose_metrics(metrics, dataset, len(models))

    before = look()
    warn(noise_before(before, threads, cores))
    result: list[Measurement] = []
    quality: list[dict[str, Quality]] = []
    with tempfile.TemporaryDirectory(prefix="modelkit-bench-") as temporary:
        folder = Path(temporary)
        report("converting", 0.0)
        files = [runnable_file(subject.model, chosen, folder).resolve() for subject in models]
        setup = Setup(runtime, device, threads, max_time, folder, report)
        for size in sizes:
            feeds = [timing_feeds(graph, size, dataset, seed) for graph in graphs]
            with ready([subject.name for subject in models], files, feeds, setup) as turns:
                take_turns(turns, max_time, time.monotonic, partial(report, f"measuring, batch {size}"))
                result += [_measurement(turn, setup, size, seed) for turn in turns]
                if dataset is not None and wanted and not quality:
                    workers = [turn.worker for turn in turns]
                    batch = quality_batch_size(graphs, dataset)
                    rows = evaluate(workers, dataset, wanted, batch, folder, partial(report, "evaluating"))
                    quality = [summarise(held, wanted, seed) for held in rows]
    warn(noise_during(before, look()))
    for index, measurement in enumerate(result):
        measurement.quality.update(quality[index % len(models)] if quality else {})
    return result


@contextmanager
def ready(names: Sequence[str], files: Sequence[Path], feeds: Sequence[Feeds], setup: Setup) -> Iterator[list[Turns]]:
    """Workers that have loaded the files and are warmed up on the feeds, all stopped; they end with the context."""
    with ExitStack() as stack:
        turns = []
        for name, file in zip(names, files, strict=True):  # all load at the same time, as nothing is timed yet
            worker = stack.enter_context(WorkerProcess(name, setup.threads))
            worker.send("load", runtime=setup.runtime, path=str(file), device=setup.device, threads=setup.threads)
            turns.append(Turns(worker))
        for index, turn in enumerate(turns):
            setup.report("loading", index / len(turns))
            turn.worker.receive()
            turn.worker.pause()
        for index, (turn, arrays) in enumerate(zip(turns, feeds, strict=True)):
            setup.report("warming up", index / len(turns))
            write_arrays(setup.folder / "feeds.npz", dict(arrays))
            _warm_up(turn.worker, setup.folder / "feeds.npz", setup.max_time)
        yield turns


def take_turns(turns: Sequence[Turns], max_time: float, clock: Callable[[], float], progress: Callable[[float], None]) -> None:
    """Blocks of samples until each model had `max_time` seconds, there and back again (ABBA), so that drift hits all alike."""
    spent = [0.0] * len(turns)
    for turn_number in count():
        order = range(len(turns)) if turn_number % 2 == 0 else reversed(range(len(turns)))
        waiting = [i for i in order if spent[i] < max_time or sum(map(len, turns[i].blocks)) < LEAST_SAMPLES]
        if not waiting:
            return
        for index in waiting:
            started = clock()
            turns[index].take(max_time / BLOCKS, settle=len(turns) > 1)
            spent[index] += clock() - started
            progress(min(1.0, sum(spent) / (max_time * len(turns))))


def _warm_up(worker: WorkerProcess, feeds: Path, max_time: float) -> None:
    with worker.awake():
        warmed = worker.ask("warm_up", feeds=str(feeds), seconds=min(WARM_UP_SECONDS, max_time))
    if warmed["stable"] is False:
        warnings.warn(
            NoiseWarning(f"{worker.subject} still changed its speed after the warm-up: close other programs, or measure again."),
            stacklevel=3,
        )


def _measurement(turn: Turns, setup: Setup, batch_size: int, seed: int) -> Measurement:
    with turn.worker.awake():
        peaks = turn.worker.ask("peak_memory")
    return Measurement(
        turn.worker.subject,
        setup.runtime,
        setup.device,
        setup.threads,
        batch_size,
        Latency.of(turn.blocks, np.random.default_rng(seed)),
        Throughput.of(turn.blocks, batch_size, np.random.default_rng(seed)),
        peaks["host"] if setup.device == "cpu" else peaks["device"],
        turn.energy,
    )
