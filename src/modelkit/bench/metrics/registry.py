"""The metrics by name: those of the entry point group `modelkit.metrics`, ours among them, and `module:function`.

An entry point names a class that follows `modelkit.bench.metrics.metric.Metric`. A function takes the outputs (a list of
arrays) and the labels (an array, or None) of a batch and gives one number per sample; their mean is the figure.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array

from .metric import Average, Evaluated, Metric, Needs

GROUP = "modelkit.metrics"


class FunctionMetric(Average):
    needs: Needs = "feeds"

    def __init__(self, name: str, function: Callable[[list[Array], Array | None], Any]) -> None:
        self.name = name
        self._function = function

    def rows(self, batch: Evaluated) -> Array:
        rows = np.asarray(self._function(list(batch.outputs), batch.labels), dtype=np.float64)
        if rows.shape != (len(batch.outputs[0]),):
            raise ModelkitError(
                f"The metric {self.name} gave an array of shape {rows.shape} for {len(batch.outputs[0])} samples.",
                "Return one number per sample.",
            )
        return rows


def metric_names() -> list[str]:
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_metric(name: str) -> Metric:
    """Raises ModelkitError for a name that nobody registered, or something that can't be imported."""
    target = next((point.value for point in entry_points(group=GROUP) if point.name == name), None)
    own = target is None and ":" in name
    target = target or (name if own else None)
    if target is None:
        raise ModelkitError(f"There is no metric {name!r}.", f"Use one of: {', '.join(metric_names())}, or module:function.")
    module, _, attribute = target.partition(":")
    try:
        found = getattr(import_module(module), attribute)
        metric: Metric = FunctionMetric(name, found) if own and not isinstance(found, type) else found()
    except Exception as error:  # a plugin can fail in any way, and only matters once it is chosen
        raise ModelkitError(
            f"The metric {name!r} can't be loaded: {error}.", "Check that the module can be imported and holds that name."
        ) from error
    return metric
