"""Quality on data: every batch goes through every model in turn, and only numbers per sample are kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelkit.core.errors import AccuracyWarning, ModelkitError
from modelkit.core.forms import Array
from modelkit.data import Dataset

from .measurement import Quality
from .metrics.metric import Evaluated, Metric
from .metrics.registry import find_metric
from .worker import read_arrays, write_arrays
from .worker_process import WorkerProcess


@dataclass(frozen=True)
class Answers:
    """What a model gave on all samples: rows by metric, and the class it decided for (None where it gives no class scores)."""

    rows: dict[str, Array]
    decisions: Array | None
    classes: int | None = None


def choose_metrics(names: Sequence[str], dataset: Dataset | None, models: int) -> list[Metric]:
    """The metrics asked for; without any, one that suits the labels. Raises ModelkitError for missing data or original."""
    if dataset is None:
        if names:
            raise ModelkitError(f"The metric {names[0]} needs data.", "Give it with --data.")
        return []
    metrics = [find_metric(name) for name in dict.fromkeys(names or _usual(dataset, models))]
    for metric in metrics:
        if metric.needs == "labels" and dataset.labels is None:
            raise ModelkitError(
                f"The metric {metric.name} needs labels, and {dataset.origin} has none.",
                "Add an array of labels named y, or use agreement, cosine, sqnr or kl.",
            )
        if metric.needs == "reference" and models < 2:
            raise ModelkitError(
                f"The metric {metric.name} compares with an original, and there is only one model.",
                "Give the original first, then the models to compare.",
            )
    return metrics


def _usual(dataset: Dataset, models: int) -> list[str]:
    if dataset.labels is None:
        return ["agreement"] if models > 1 else []
    if dataset.labels.dtype.kind == "f":
        return ["mse"]
    text = dataset.labels.ndim == 2 and all("int" in spec.dtype for spec in dataset.inputs)
    return ["perplexity"] if text else ["accuracy"]


def evaluate(
    workers: Sequence[WorkerProcess],
    dataset: Dataset,
    metrics: Sequence[Metric],
    batch_size: int,
    folder: Path,
    progress: Callable[[float], None],
) -> list[Answers]:
    """The answers of each model, the first model being the original that `reference` metrics compare with; it has no
    rows of those itself. Holds one batch and the outputs of two models at a time."""
    rows: list[dict[str, list[Array]]] = [{metric.name: [] for metric in metrics} for _ in workers]
    decided: list[list[Array]] = [[] for _ in workers]
    classes: list[int | None] = [None for _ in workers]
    sent, received = folder / "batch.npz", folder / "outputs.npz"
    done = 0
    for feeds, labels, valid in dataset.padded_batches(batch_size):
        write_arrays(sent, dict(feeds))
        original: list[Array] | None = None
        for index, worker in enumerate(workers):
            with worker.awake():
                worker.ask("outputs", feeds=str(sent), to=str(received))
            outputs = _per_sample(read_arrays(received), batch_size, valid, worker.subject)
            batch = Evaluated({name: array[:valid] for name, array in feeds.items()}, outputs, labels, original)
            for metric in metrics:
                if metric.needs != "reference" or index > 0:
                    rows[index][metric.name].append(_rows(metric, batch, worker.subject))
            if index == 0:
                original = outputs
            if outputs[0].ndim == 2 and outputs[0].shape[1] > 1 and outputs[0].dtype.kind == "f":
                classes[index] = outputs[0].shape[1]
                decided[index].append(outputs[0].argmax(axis=1))
        done += valid
        progress(done / dataset.n)
    joined = [{name: np.concatenate(parts) for name, parts in found.items() if parts} for found in rows]
    return [
        Answers(found, np.concatenate(chosen) if chosen else None, width)
        for found, chosen, width in zip(joined, decided, classes, strict=True)
    ]


def summarise(rows: dict[str, Array], metrics: Sequence[Metric], seed: int) -> dict[str, Quality]:
    return {
        metric.name: Quality(metric.total(held), metric.interval(held, np.random.default_rng(seed)), len(held))
        for metric in metrics
        if (held := rows.get(metric.name)) is not None
    }


def _rows(metric: Metric, batch: Evaluated, subject: str) -> Array:
    try:
        return metric.rows(batch)
    except ModelkitError as error:
        raise ModelkitError(f"{subject}: {error.what}", error.fix) from error


def _per_sample(outputs: Mapping[str, Array], batch_size: int, valid: int, subject: str) -> list[Array]:
    """The outputs with a row per sample, without the samples that only filled up the batch."""
    kept = [output[:valid] for output in outputs.values() if output.ndim and len(output) == batch_size]
    if not kept:
        raise ModelkitError(f"{subject} has no output with a row per sample.", "Its quality can't be measured: leave out --data.")
    if any(output.dtype.kind == "f" and np.isnan(output).any() for output in kept):
        warnings.warn(
            AccuracyWarning(f"{subject} gives NaN on the data: it is broken, or the data is not its kind."), stacklevel=3
        )
    return kept
