"""What a quality metric is: numbers for each sample, and how they add up to one figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from modelkit.bench.statistics import Interval, bootstrap_interval
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.model import Feeds

Needs = Literal["labels", "reference", "feeds"]


@dataclass(frozen=True)
class Evaluated:
    """A batch that went through a model: all arrays have the samples first. `reference` is what the original gave."""

    feeds: Feeds
    outputs: Sequence[Array]
    labels: Array | None = None
    reference: Sequence[Array] | None = None


class Metric(Protocol):
    """Rows of single samples are kept, so that figures of two models can be compared sample by sample.

    A metric of which less is better says so with `higher_is_better = False`."""

    name: str
    needs: Needs

    def rows(self, batch: Evaluated) -> Array:
        """(n, k) or (n,): what each sample contributes. Raises ModelkitError when the batch does not suit the metric."""
        ...

    def total(self, rows: Array) -> float:
        """The figure for these samples."""
        ...

    def interval(self, rows: Array, rng: np.random.Generator) -> Interval:
        """The 95% interval of the figure."""
        ...


def higher_is_better(metric: Metric) -> bool:
    return bool(getattr(metric, "higher_is_better", True))


class Average:
    """A metric that is the mean over samples."""

    def total(self, rows: Array) -> float:
        return float(rows.mean())

    def interval(self, rows: Array, rng: np.random.Generator) -> Interval:
        return bootstrap_interval(rows, self.total, rng)


def labels_of(batch: Evaluated, metric: str) -> Array:
    if batch.labels is None:
        raise ModelkitError(
            f"The metric {metric} needs labels, and the data has none.", "Add labels to --data (an array named y)."
        )
    return np.asarray(batch.labels)


def reference_of(batch: Evaluated, metric: str) -> Sequence[Array]:
    """The original's outputs, one for each of this model's, of equal shape."""
    if batch.reference is None:
        raise ModelkitError(
            f"The metric {metric} compares with an original.", "Give the original first, then the models to compare."
        )
    if [output.shape for output in batch.outputs] != [output.shape for output in batch.reference]:
        shapes = [[tuple(output.shape) for output in outputs] for outputs in (batch.outputs, batch.reference)]
        raise ModelkitError(
            f"The outputs have shapes {shapes[0]} and the original's {shapes[1]}, so {metric} can't compare them.",
            "Compare models with the same outputs.",
        )
    return batch.reference


def flat_floats(outputs: Sequence[Array]) -> Array:
    """The floating-point outputs side by side, (n, all values), in float64."""
    floats = [output for output in outputs if output.dtype.kind == "f"] or list(outputs)
    return np.concatenate([output.reshape(len(output), -1).astype(np.float64) for output in floats], axis=1)
