"""Which weights stay, given a score for each: the largest of a matrix, of each row, or of every M in a row."""

from __future__ import annotations

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.sparsity import Sparsity


def largest(scores: Array, sparsity: Sparsity, per_row: bool = False) -> Array:
    """A bool mask of the shape of `scores` (rows, columns). The share that is left out is met to within half a weight, of the
    whole matrix or of each row; equal scores are ranked by their place. Raises ValueError when M does not divide the
    columns."""
    rows, columns = scores.shape
    if sparsity.kept is not None and sparsity.of is not None:
        if columns % sparsity.of:
            raise ValueError(f"{columns} columns are not groups of {sparsity.of}")
        grouped = scores.reshape(-1, sparsity.of)
        return _without_smallest(grouped, sparsity.of - sparsity.kept).reshape(rows, columns)
    if per_row:
        return _without_smallest(scores, round(sparsity.share * columns))
    return _without_smallest(scores.reshape(1, -1), round(sparsity.share * scores.size)).reshape(rows, columns)


def _without_smallest(scores: Array, count: int) -> Array:
    """False at the `count` smallest of each row."""
    mask = np.ones(scores.shape, bool)
    np.put_along_axis(mask, np.argsort(scores, axis=1, kind="stable")[:, :count], False, axis=1)
    return mask
