"""Whether a score puts the samples in the right order."""

from __future__ import annotations

import numpy as np

from modelkit.bench.statistics import Interval, bootstrap_interval
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array

from .metric import Evaluated, Needs, labels_of


class Spearman:
    """Rank correlation of labels and scores: the only number of the first output, or the cosine of a pair of embeddings
    (n, 2, d) or of the first two outputs (n, d), as sentence similarity is judged."""

    name = "spearman"
    needs: Needs = "labels"

    def rows(self, batch: Evaluated) -> Array:
        labels = labels_of(batch, self.name).astype(np.float64).reshape(-1)
        scores = _scores(batch)
        if len(scores) != len(labels):
            raise ModelkitError(
                f"The metric spearman needs one label per sample, but there are {len(labels)} for {len(scores)}.",
                "Give one label each.",
            )
        return np.stack([scores, labels], axis=1)

    def total(self, rows: Array) -> float:
        scores, labels = (_ranks(column) for column in rows.T)
        scores -= scores.mean()
        labels -= labels.mean()
        spread = np.sqrt(np.square(scores).sum() * np.square(labels).sum())
        return float((scores * labels).sum() / spread) if spread else 0.0

    def interval(self, rows: Array, rng: np.random.Generator) -> Interval:
        return bootstrap_interval(rows, self.total, rng)


def _scores(batch: Evaluated) -> Array:
    first = batch.outputs[0].astype(np.float64)
    if first.size == len(first):
        return first.reshape(-1)
    if first.ndim == 3 and first.shape[1] == 2:
        return _cosine(first[:, 0], first[:, 1])
    if len(batch.outputs) > 1 and first.ndim == 2 and batch.outputs[1].shape == first.shape:
        return _cosine(first, batch.outputs[1].astype(np.float64))
    raise ModelkitError(
        f"The metric spearman needs one score or two embeddings per sample, but the first output is {tuple(first.shape)}.",
        "Use another --metric, or a function of your own as module:function.",
    )


def _cosine(a: Array, b: Array) -> Array:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-30))


def _ranks(values: Array) -> Array:
    """Ranks from 1; equal values share their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which])
