"""A model in a runtime, ready to be started: everything that can be wrong is found here, before anything is measured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelkit.core.errors import InputWarning, ModelkitError, TargetWarning
from modelkit.core.targets import TARGETS
from modelkit.data import Dataset
from modelkit.runtimes.choice import choose_runtime, runnable_file
from modelkit.runtimes.registry import require_runtime

from .cpu import target_isa, usable_cores
from .inputs import check_batch_sizes, timing_feeds
from .measurement import Subject
from .worker import write_arrays

Progress = Callable[[str, float], None]  # what is being done, and the part of it that is done

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Conditions:
    """What all contenders of a run have in common."""

    device: str
    threads: int
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True)
class Contender:
    """`file` is in the format of the runtime; `feeds` holds the arrays that it is timed on, at one batch size."""

    name: str
    runtime: str
    file: Path
    feeds: Path
    batch_size: int


def check(
    models: Sequence[Subject],
    runtimes: Sequence[str],
    device: str,
    threads: int | None,
    batch_sizes: Sequence[int] | None,
) -> tuple[list[str], Conditions]:
    """The runtimes by name ("auto" resolved) and the conditions. Raises ModelkitError for what can't be used here."""
    if not models:
        raise ModelkitError("There is no model to measure.", "Give at least one.")
    if device not in DEVICES:
        raise ModelkitError(f"There is no device {device!r}.", f"Use --device {' or '.join(DEVICES)}.")
    names = []
    for runtime in runtimes:
        if runtime == "auto":
            runtime, note = choose_runtime([subject.model for subject in models], device)
            if note:
                warnings.warn(InputWarning(note), stacklevel=3)
        require_runtime(runtime, device)
        names.append(runtime)
    for subject in models:
        if reason := _unsuited(subject.model.provenance.target, device):
            warnings.warn(TargetWarning(f"{subject.name} is laid out for {reason}"), stacklevel=3)
    graphs = [subject.model.graph for subject in models]
    sizes = check_batch_sizes([subject.name for subject in models], graphs, batch_sizes)
    return list(dict.fromkeys(names)), Conditions(device, threads or usable_cores(), tuple(sizes))


def _unsuited(target: str | None, device: str) -> str | None:
    """What is wrong with running a model of that target here, if anything."""
    known = TARGETS.get(target or "")
    if known is None:
        return None
    if device == "cuda":
        return None if known.padded else f"{target}: CUDA's kernels want another layout. Quantise with --target cuda."
    if known.reduce_range or target_isa() in ("vnni", "neon"):
        return None
    return f"{target}: on this processor its sums of integers saturate, and are wrong. Quantise with --target avx2."


def contenders(
    models: Sequence[Subject], runtimes: Sequence[str], conditions: Conditions, dataset: Dataset | None, seed: int, folder: Path
) -> dict[int, list[Contender]]:
    """Every model in every runtime, by batch size; models are converted into `folder` where a runtime does not read them."""
    device = conditions.device
    files = [[runnable_file(s.model, require_runtime(name, device), folder).resolve() for name in runtimes] for s in models]
    found: dict[int, list[Contender]] = {}
    for size in conditions.batch_sizes:
        found[size] = []
        for index, subject in enumerate(models):
            feeds = folder / f"feeds-{index}-{size}.npz"
            write_arrays(feeds, timing_feeds(subject.model.graph, size, dataset, seed))
            found[size] += [
                Contender(subject.name, name, file, feeds, size) for name, file in zip(runtimes, files[index], strict=True)
            ]
    return found
