"""The calibration data that a pass for channels works on."""

from __future__ import annotations

from modelkit.analysis.memory import live_bytes
from modelkit.core.errors import ModelkitError
from modelkit.core.model import Feeds
from modelkit.core.pruning import PruningTask

_LIVE_BYTES = 1 << 30  # of activations that walks may hold


def calibration(task: PruningTask) -> list[Feeds]:
    """The batches, as many as two walks side by side can hold the activations of. Raises ModelkitError when there are none."""
    assert task.batches is not None
    most = _LIVE_BYTES // max(live_bytes(task.model.graph), 1)
    batches: list[Feeds] = []
    count = 0
    for batch in task.batches():
        batches.append(batch)
        count += len(next(iter(batch.values())))
        if count >= most:
            break
    if not batches:
        raise ModelkitError("The calibration data holds no samples.", "Give at least one sample, better some hundred.")
    return batches
