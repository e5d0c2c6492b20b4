"""`bench`: models side by side, each in its own process, taking turns in short blocks while the others are stopped."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from modelkit.core.errors import NoiseWarning
from modelkit.data import Dataset

from .contender import Contender, Progress, check, contenders
from .cpu import usable_cores
from .inputs import quality_batch_size
from .launch import Started, launched
from .measurement import Measurement, Profile, Quality, Subject, measurement
from .metrics.metric import Metric
from .noise import look, noise_before, noise_during, own_seconds, quiet_cpus, warn
from .quality import choose_metrics, evaluate, summarise

BLOCKS = 20  # per measurement: enough for the block bootstrap, long enough to be worth switching
LEAST_SAMPLES = 5  # of a model so slow that the time would not allow for more
WARM_UP_SECONDS = 2.0
PROFILE_SECONDS = 1.0


def measure(
    models: Sequence[Subject],
    runtimes: str | Sequence[str] = "auto",
    device: str = "cpu",
    threads: int | None = None,
    batch_sizes: Sequence[int] | None = None,
    max_time: float = 3.0,
    dataset: Dataset | None = None,
    metrics: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
    profiles: Path | None = None,
) -> list[Measurement]:
    """Latency, throughput, memory, energy and (with a dataset) quality of every model in every runtime at every batch size.

    `threads` None means one per usable core, `batch_sizes` None 1 (or the size that a model fixes), `max_time` is in seconds
    for each model, runtime and batch size. The first model (in the first runtime) is the original for metrics that compare.
    The result is ordered by batch size, then as the models were given, then as the runtimes were. `profiles`: a folder for
    traces, which also asks for the time by layer. Warns with NoiseWarning.
    Raises ModelkitError before anything is measured when the runtime, device, batch sizes, data or metrics don't suit the
    models; later when a worker fails.
    """
    report = progress or (lambda what, part: None)
    names, conditions = check(models, [runtimes] if isinstance(runtimes, str) else runtimes, device, threads, batch_sizes)
    wanted = choose_metrics(metrics, dataset, len(models) * len(names))
    before, ours = look(device), own_seconds()
    warn(noise_before(before, conditions.threads, usable_cores()))
    result: list[Measurement] = []
    quality: list[dict[str, Quality]] = []
    with tempfile.TemporaryDirectory(prefix="modelkit-bench-") as temporary:
        folder = Path(temporary)
        report("converting", 0.0)
        found = contenders(models, names, conditions, dataset, seed, folder)
        cpus = quiet_cpus(conditions.threads)
        for size, here in found.items():
            warm = min(WARM_UP_SECONDS, max_time)
            with launched(here, conditions, range(len(here)), warm, cpus, report) as started:
                _warn_of_instability(here, started)
                take_turns(
                    started, max_time, time.monotonic, np.random.default_rng(seed), partial(report, f"measuring, batch {size}")
                )
                result += [measurement(it, conditions, [start], seed) for it, start in zip(here, started, strict=True)]
                if profiles is not None:
                    report("profiling", 1.0)
                    _add_profiles(result[-len(here) :], here, started, profiles)
                if dataset is not None and wanted and not quality:
                    quality = _quality(models, started, dataset, wanted, folder, seed, partial(report, "evaluating"))
    warn(noise_during(before, look(device), own_seconds() - ours))
    for index, measured in enumerate(result):
        measured.quality.update(quality[index % len(quality)] if quality else {})
    return result


def take_turns(
    started: Sequence[Started],
    max_time: float,
    clock: Callable[[], float],
    rng: np.random.Generator,
    progress: Callable[[float], None],
) -> None:
    """Turns until each contender had `max_time` seconds, in a new random order each time, so that drift hits all alike."""
    spent = [0.0] * len(started)
    while True:
        waiting = [
            int(i)
            for i in rng.permutation(len(started))
            if spent[i] < max_time or sum(map(len, started[i].blocks)) < LEAST_SAMPLES
        ]
        if not waiting:
            return
        for index in waiting:
            began = clock()
            started[index].take(max_time / BLOCKS, settle=len(started) > 1)
            spent[index] += clock() - began
            progress(min(1.0, sum(spent) / (max_time * len(started))))


def _add_profiles(measured: Sequence[Measurement], here: Sequence[Contender], started: Sequence[Started], folder: Path) -> None:
    """After everything was timed, as profilers slow a model down."""
    taken: set[Path] = set()
    for result, it, start in zip(measured, here, started, strict=True):
        name = f"{Path(it.name).stem}-{it.runtime}"
        trace = next(path for i in count(1) if (path := folder / f"{name}{f'-{i}' * (i > 1)}.trace.json") not in taken)
        taken.add(trace)
        with start.worker.awake():
            layers = start.worker.ask("profile", trace=str(trace), seconds=PROFILE_SECONDS)["layers"]
        result.profile = Profile(str(trace), layers)


def _quality(
    models: Sequence[Subject],
    started: Sequence[Started],
    dataset: Dataset,
    metrics: Sequence[Metric],
    folder: Path,
    seed: int,
    progress: Callable[[float], None],
) -> list[dict[str, Quality]]:
    batch = quality_batch_size([subject.model.graph for subject in models], dataset)
    answers = evaluate([start.worker for start in started], dataset, metrics, batch, folder, progress)
    return [summarise(answer.rows, metrics, seed) for answer in answers]


def _warn_of_instability(here: Sequence[Contender], started: Sequence[Started]) -> None:
    for it, start in zip(here, started, strict=True):
        if start.stable is False:
            message = f"{it.name} still changed its speed after the warm-up: close other programs, or measure again."
            warnings.warn(NoiseWarning(message), stacklevel=3)
