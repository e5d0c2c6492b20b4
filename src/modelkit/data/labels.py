"""Which array holds the labels, and whether they can be labels at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..core.errors import ModelkitError
from ..core.forms import Array
from ..core.graph import Input
from .columns import Column, Source

LABEL_NAMES = ("y", "label", "labels", "target", "targets")


def label_name(names: Sequence[str], inputs: Sequence[Input], asked: str | None, origin: str) -> str | None:
    """The name that holds the labels: the one asked for, else the first usual one that is not an input of the model."""
    if asked is not None:
        if asked not in names:
            raise ModelkitError(
                f"{origin} has no label {asked!r} (it holds {', '.join(names) or 'nothing'}).", "Name one that it has."
            )
        return asked
    taken = {i.name for i in inputs}
    by_lower = {name.lower(): name for name in reversed(names) if name not in taken}
    return next((by_lower[usual] for usual in LABEL_NAMES if usual in by_lower), None)


def split_labels(source: Source, inputs: Sequence[Input], asked: str | None) -> Source:
    """Move the labels of a source of named arrays out of its columns."""
    if source.labels is not None:
        return source
    name = label_name(list(source.columns), inputs, asked, source.origin)
    if name is None:
        return source
    columns: Mapping[str, Column] = {k: v for k, v in source.columns.items() if k != name}
    held = source.columns[name]
    return Source(source.origin, columns, held.read(np.arange(held.n)), source.class_names, source.ignored)


def checked_labels(labels: Array, n: int, origin: str) -> Array:
    """Labels as int64 class indices or float targets, one row for each of `n` samples. Raises ModelkitError if they can't be."""
    if labels.dtype.kind not in "biuf":
        raise ModelkitError(
            f"The labels in {origin} are {labels.dtype}, not numbers.", "Give class indices, counting from 0, or float targets."
        )
    if labels.ndim == 0 or len(labels) != n:
        raise ModelkitError(f"{origin} has {n} samples but labels of shape {list(labels.shape)}.", "Give one label per sample.")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise ModelkitError(f"The labels in {origin} have NaN or infinite values.", "Remove or fill those samples.")
        return labels
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype == np.uint64 and labels.size and labels.max() > np.iinfo(np.int64).max:
        raise ModelkitError(f"The labels in {origin} are too large.", "Give class indices, counting from 0.")
    return labels.astype(np.int64, copy=False)
