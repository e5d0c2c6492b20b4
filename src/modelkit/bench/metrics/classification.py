"""How often the right class, or the original's class, comes out on top. The first output holds the class scores."""

from __future__ import annotations

import numpy as np

from modelkit.bench.statistics import Interval, bootstrap_interval, wilson_interval
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array

from .metric import Average, Evaluated, Needs, labels_of, reference_of


class Share(Average):
    """The share of samples for which something holds; with several decisions per sample, the mean of their shares."""

    def interval(self, rows: Array, rng: np.random.Generator) -> Interval:
        if np.isin(rows, (0, 1)).all():
            return wilson_interval(int(rows.sum()), len(rows))
        return bootstrap_interval(rows, self.total, rng)


class Accuracy(Share):
    name = "accuracy"
    needs: Needs = "labels"

    def rows(self, batch: Evaluated) -> Array:
        scores, labels = _scores_and_labels(batch, self.name)
        return _per_sample(scores.argmax(axis=-1) == labels)


class Top5(Share):
    name = "top5"
    needs: Needs = "labels"

    def rows(self, batch: Evaluated) -> Array:
        scores, labels = _scores_and_labels(batch, self.name)
        best = np.argsort(-scores, axis=-1, kind="stable")[..., :5]
        return _per_sample((best == labels[..., None]).any(axis=-1))


class Agreement(Share):
    """How often a model decides as the original does."""

    name = "agreement"
    needs: Needs = "reference"

    def rows(self, batch: Evaluated) -> Array:
        reference = reference_of(batch, self.name)[0]
        axis = 1 if batch.outputs[0].ndim == 4 else -1  # (n, classes, height, width) for images
        return _per_sample(batch.outputs[0].argmax(axis=axis) == reference.argmax(axis=axis))


def _scores_and_labels(batch: Evaluated, metric: str) -> tuple[Array, Array]:
    """Scores with the classes last, and labels of the other axes' shape. One-hot labels become numbers."""
    scores, labels = batch.outputs[0], labels_of(batch, metric)
    if labels.shape == scores.shape and scores.ndim > 1:
        labels = labels.argmax(axis=-1)
    if labels.shape == (len(scores), 1):
        labels = labels[:, 0]
    if scores.ndim > 2 and (scores.shape[0], *scores.shape[2:]) == labels.shape:
        scores = np.moveaxis(scores, 1, -1)
    if scores.ndim < 2 or scores.shape[-1] < 2 or scores.shape[:-1] != labels.shape:
        raise ModelkitError(
            f"The metric {metric} needs an output of (samples, classes), but the first output is {tuple(scores.shape)} "
            f"for labels {tuple(labels.shape)}.",
            "Use another --metric (mse, agreement, cosine), or a function of your own as module:function.",
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < scores.shape[-1]:
        raise ModelkitError(
            f"The labels go from {labels.min()} to {labels.max()}, but the model has the classes 0 to {scores.shape[-1] - 1}.",
            "Give labels that count from 0 in the model's order of classes.",
        )
    return scores, labels


def _per_sample(hits: Array) -> Array:
    return np.asarray(hits.reshape(len(hits), -1).mean(axis=1))
