"""How far outputs are from labels, or from the original's outputs."""

from __future__ import annotations

import numpy as np

from modelkit.bench.statistics import Interval, bootstrap_interval
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array

from .metric import Average, Evaluated, Needs, flat_floats, labels_of, reference_of

LEAST_NOISE = 2.0**-46  # of the signal: float32 tells no smaller difference, and JSON knows no infinity


class MeanSquaredError(Average):
    name = "mse"
    higher_is_better = False
    needs: Needs = "labels"

    def rows(self, batch: Evaluated) -> Array:
        labels = labels_of(batch, self.name)
        outputs = batch.outputs[0]
        if outputs.size != labels.size:
            raise ModelkitError(
                f"The metric mse needs labels like the first output {tuple(outputs.shape)}, but they are {tuple(labels.shape)}.",
                "Use --metric accuracy for class labels, or give labels of the output's shape.",
            )
        error = outputs.reshape(len(outputs), -1).astype(np.float64) - labels.reshape(len(labels), -1)
        return np.asarray(np.square(error).mean(axis=1))


class Cosine(Average):
    """The cosine between a sample's outputs and the original's."""

    name = "cosine"
    needs: Needs = "reference"

    def rows(self, batch: Evaluated) -> Array:
        ours, theirs = flat_floats(batch.outputs), flat_floats(reference_of(batch, self.name))
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        same = (ours == theirs).all(axis=1)  # two zero vectors agree, though they have no direction
        return np.where(same, 1.0, (ours * theirs).sum(axis=1) / np.where(lengths == 0, 1.0, lengths))


class SignalToNoise:
    """Decibels of the original's outputs over the difference to them: 10 log10(Σ y² / Σ (y − ŷ)²), at most 138.5."""

    name = "sqnr"
    needs: Needs = "reference"

    def rows(self, batch: Evaluated) -> Array:
        ours, theirs = flat_floats(batch.outputs), flat_floats(reference_of(batch, self.name))
        return np.stack([np.square(theirs).sum(axis=1), np.square(ours - theirs).sum(axis=1)], axis=1)

    def total(self, rows: Array) -> float:
        signal, noise = rows.sum(axis=0)
        if signal == 0:
            return 0.0
        return float(-10 * np.log10(max(noise / signal, LEAST_NOISE)))

    def interval(self, rows: Array, rng: np.random.Generator) -> Interval:
        return bootstrap_interval(rows, self.total, rng)


class Divergence(Average):
    """Kullback-Leibler divergence of the model's class probabilities from the original's, in nats per decision."""

    name = "kl"
    higher_is_better = False
    needs: Needs = "reference"

    def rows(self, batch: Evaluated) -> Array:
        ours, theirs = (log_probabilities(scores) for scores in (batch.outputs[0], reference_of(batch, self.name)[0]))
        divergence = (np.exp(theirs) * (theirs - ours)).sum(axis=-1)
        return np.asarray(divergence.reshape(len(divergence), -1).mean(axis=1))


def log_probabilities(scores: Array) -> Array:
    """Log softmax along the last axis; scores that already are probabilities are taken as such."""
    scores = scores.astype(np.float64)
    if (scores >= 0).all() and np.allclose(scores.sum(axis=-1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(scores, 1e-12)))
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
