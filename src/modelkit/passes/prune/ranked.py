"""From scores of units to a pruned model, for the passes that do not refit."""

from __future__ import annotations

from collections.abc import Mapping

from modelkit.analysis.memory import first_batches
from modelkit.analysis.widths import chosen
from modelkit.core.forms import Array
from modelkit.core.model import Model
from modelkit.core.pruning import PruningTask

from .restore import restore


def prune_by(task: PruningTask, scores: Mapping[str, Array]) -> Model:
    """The task's model without the units of the lowest scores. With calibration data the layers behind get back their moments."""
    original, model = task.model.copy(), task.model
    cut = task.channels.cut(chosen(task, scores))
    model.shrink(cut)
    if task.batches is not None:
        batches = first_batches(task.batches(), model.graph)
        restore(original, model, cut, batches, task.fixed, task.seed)
    return model
