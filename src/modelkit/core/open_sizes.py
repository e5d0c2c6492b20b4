"""Sizes to assume for what a file leaves open and no data tells: inputs that look like images or like sound get usual ones."""

from __future__ import annotations

from collections.abc import Sequence

IMAGE_SIDE = 224
SIGNAL = 16000  # one second of sound: shorter than their windows, models of it don't run


def usual_size(dims: Sequence[int | str | None], axis: int, floats: bool) -> int | None:
    """Of an open axis, the batch aside: a side of (N, C, H, W), or the samples of (N, T), as features would be as many as a layer
    reads. None where nothing is usual. dims: ints where they are fixed."""
    if not floats:
        return None
    sides = dims[-2:]
    if len(dims) >= 4 and axis >= len(dims) - 2 and not any(isinstance(side, int) for side in sides):
        return IMAGE_SIDE
    return SIGNAL if len(dims) == 2 and axis == 1 else None
