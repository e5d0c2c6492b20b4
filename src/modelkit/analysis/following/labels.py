"""Labels: which unit each element of a tensor belongs to.

A label array has the rank of its tensor and size 1 along axes where the labels do not change (so the channels of an image are
(1, C, 1, 1)). Label 0 belongs to no unit: that element always stays.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


class Units:
    """Labels that turn out to be one unit are joined (a union-find); those that can't be removed are frozen, with a reason."""

    def __init__(self) -> None:
        self._parent = np.zeros(1, np.int64)
        self._frozen = np.zeros(1, bool)
        self._made: dict[Hashable, Labels] = {}
        self._why: dict[int, str] = {}
        self.version = 0  # grows with every change

    def of(self, key: Hashable, count: int) -> Labels:
        """`count` labels that are new when `key` is, (count,)."""
        if key not in self._made:
            start = len(self._parent)
            new = np.arange(start, start + count)
            self._parent = np.append(self._parent, new)
            self._frozen = np.append(self._frozen, np.zeros(count, bool))
            self._made[key] = new
            self.version += 1
        return self._made[key]

    def roots(self, labels: Labels) -> Labels:
        """Each label's representative."""
        while True:
            up: Labels = self._parent[labels]
            if np.array_equal(up, labels):
                return up
            labels = up

    def live(self, labels: Labels) -> Labels:
        """Representatives; 0 for what is frozen."""
        roots = self.roots(labels)
        return np.where(self._frozen[roots], 0, roots)

    def why(self, labels: Labels) -> str | None:
        """Why (some of) these are frozen, or were joined."""
        return next((self._why[int(root)] for root in np.unique(self.roots(labels)) if int(root) in self._why), None)

    def freeze(self, labels: Labels, why: str) -> None:
        for root in np.unique(self.live(labels)):
            if root:
                self._frozen[root] = True
                self._why[int(root)] = why
                self.version += 1

    def join(self, a: Labels, b: Labels, why: str) -> None:
        """Element by element (broadcast). A label joined with 0 is frozen."""
        a, b = np.broadcast_arrays(self.live(a), self.live(b))
        pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
        for x, y in pairs.T[pairs[0] != pairs[1]]:
            if x == 0 or y == 0:
                self.freeze(np.array([x or y]), why)
                continue
            first, second = (int(root) for root in self.roots(np.array([x, y])))
            if first == second:
                continue
            low, high = sorted((first, second))
            self._parent[high] = low
            self._frozen[low] |= self._frozen[high]
            if low not in self._why:
                self._why[low] = self._why.get(high, why)
            self.version += 1

    def merge(self, labels: Labels, axes: Iterable[int], why: str) -> Labels:
        """Make the labels equal along `axes`; returns them, of size 1 there."""
        wanted = tuple(axis for axis in axes if labels.shape[axis] > 1)
        if not wanted:
            return labels
        first = labels[tuple(slice(0, 1) if axis in wanted else slice(None) for axis in range(labels.ndim))]
        self.join(np.broadcast_to(first, labels.shape), labels, why)
        live = self.live(labels)
        return live.min(axis=wanted, keepdims=True)  # 0 where one of them is frozen, and then all are


def compact(labels: Labels) -> Labels:
    """The same with size 1 along every axis where nothing changes."""
    for axis in range(labels.ndim):
        if labels.shape[axis] > 1 and (labels == labels.take([0], axis)).all():
            labels = labels.take([0], axis)
    return labels


def along(labels: Labels, axis: int, rank: int) -> Labels:
    """A vector of labels as an array of `rank` that changes along `axis` only."""
    shape = [1] * rank
    shape[axis] = len(labels)
    return labels.reshape(shape)


def varying(labels: Labels) -> tuple[int, ...]:
    """The axes along which compact labels change."""
    return tuple(axis for axis, size in enumerate(labels.shape) if size > 1)


def aligned(labels: Labels, rank: int) -> Labels:
    """With leading ones, as broadcasting adds them."""
    return labels.reshape((1,) * (rank - labels.ndim) + labels.shape)


def folded(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    return (1,) * (rank - len(shape)) + tuple(shape)
