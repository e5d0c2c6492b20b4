"""Columns: what every reader turns its file into. A column gives rows by index, so that only one batch is in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..core.forms import Array
from ..core.graph import Shape


class Column(Protocol):
    """`n` samples, each an array of `shape` and `dtype`. `costly`: reading decodes or decompresses."""

    @property
    def n(self) -> int: ...

    @property
    def shape(self) -> Shape: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def costly(self) -> bool: ...

    def read(self, rows: Array) -> Array:
        """The samples at these ascending indices, stacked: (len(rows), *shape)."""
        ...


@dataclass(frozen=True)
class ArrayColumn:
    """Samples that are in memory, along the first axis."""

    array: Array
    costly: bool = False

    @property
    def n(self) -> int:
        return self.array.shape[0]

    @property
    def shape(self) -> Shape:
        return self.array.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def read(self, rows: Array) -> Array:
        return self.array[rows]


@dataclass(frozen=True)
class Source:
    """What a reader found. `columns` are by the names in the data, or the model's where the reader knows which is which.

    `labels` has one row per sample: class indices, or float targets; `class_names` are in index order.
    """

    origin: str
    columns: Mapping[str, Column]
    labels: Array | None = None
    class_names: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = field(default=())


def describe(name: str, n: int | str, shape: Shape, dtype: object) -> str:
    """A column as the model's inputs are written, "x:uint8[60000,28,28]"."""
    return f"{name}:{dtype}[{','.join(map(str, (n, *shape)))}]"


def describe_all(columns: Mapping[str, Column]) -> str:
    return ", ".join(describe(name, c.n, c.shape, c.dtype) for name, c in columns.items()) or "nothing"
