"""A data set as a model takes it: batches of ready inputs, read and converted when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np

from ..core.errors import ModelkitError
from ..core.forms import Array
from ..core.graph import Input
from ..core.model import Feeds
from .columns import Source
from .convert import Conversion

CACHE_BYTES = 32 << 20  # raw rows that are costly to read are kept up to this size, as calibration may go over them twice


class Dataset:
    """`n` samples in the order of the file. `labels` are class indices (int64) or float targets, one row per sample; token ids
    (n, length) for text. `class_names` are in index order, where the data names its classes.

    Values are checked as they are read: a NaN, say, raises ModelkitError from the batch that holds it.
    """

    def __init__(self, source: Source, conversions: Sequence[Conversion], rows: Array, labels: Array | None) -> None:
        self.origin = source.origin
        self.n = len(rows)
        self.labels = labels
        self.class_names = source.class_names
        self.inputs: tuple[Input, ...] = tuple(c.input for c in conversions)
        self._source = source
        self._conversions = tuple(conversions)
        self._rows = rows
        self._kept: Mapping[str, Array] | None = None

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the model's inputs are fixed to, None where it is free."""
        sizes = [i.dims[0] for i in self.inputs if isinstance(i.dims[0], int)]
        return max(sizes, default=None)

    def batches(self, batch_size: int) -> Iterator[tuple[Feeds, Array | None]]:
        """Inputs by name, (up to batch_size, *sample), and the labels of the same samples. May be called again."""
        if batch_size < 1:
            raise ModelkitError(f"The batch size {batch_size} is not a positive number.", "Give at least 1.")
        for start in range(0, self.n, batch_size):
            stop = min(start + batch_size, self.n)
            yield self.take(np.arange(start, stop))

    def padded_batches(self, batch_size: int) -> Iterator[tuple[Feeds, Array | None, int]]:
        """As `batches`, for a model with a fixed batch: the last one is filled up by repeating its own samples. The third value
        is how many of its samples count; labels are given for those only."""
        for feeds, labels in self.batches(batch_size):
            valid = len(next(iter(feeds.values())))
            if valid < batch_size:
                rows = np.arange(batch_size) % valid
                feeds = {name: array[rows] for name, array in feeds.items()}
            yield feeds, labels, valid

    def take(self, samples: Array) -> tuple[Feeds, Array | None]:
        """Inputs and labels of the samples with these numbers, in this order; a sample may come more than once."""
        columns = self._source.columns
        rows, back = np.unique(self._rows[samples], return_inverse=True)  # columns read forwards
        if self._kept is None:
            costly = {c.column for c in self._conversions if columns[c.column].costly}
            size = sum(self.n * prod(columns[name].shape) * columns[name].dtype.itemsize for name in costly)
            self._kept = {name: columns[name].read(self._rows) for name in costly} if size <= CACHE_BYTES else {}
        raw = {
            c.column: self._kept[c.column][samples] if c.column in self._kept else columns[c.column].read(rows)[back]
            for c in self._conversions
        }
        labels = None if self.labels is None else self.labels[samples]
        return {c.input.name: c.apply(raw[c.column]) for c in self._conversions}, labels
