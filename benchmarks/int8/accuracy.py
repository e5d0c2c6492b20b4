"""How good a quantised model still is: accuracy where there are labels, else agreement of its embeddings with the original's.

Intervals are percentiles of a paired bootstrap: every model meets the same resamples of the test set, so differences between
models are known far better than the models' own figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from modelkit.bench.metrics.distance import SignalToNoise
from modelkit.bench.metrics.metric import Evaluated

from .cases import Samples

RESAMPLES = 1000
Interval = tuple[float, float]


def outputs(model: Path, samples: Samples, threads: int) -> np.ndarray:
    """The first output for every sample, (n, ...)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, feeds)[0] for feeds in samples.batches()])


@dataclass(frozen=True)
class Scores:
    """`values` by model; `resampled` (resamples,) by model, of the same resamples; `sqnr`: of the outputs against the original's,
    in dB."""

    metric: str
    values: Mapping[str, float]
    resampled: Mapping[str, np.ndarray]
    sqnr: Mapping[str, float]

    def interval(self, model: str) -> Interval:
        return _interval(self.resampled[model])

    def difference(self, model: str, other: str) -> tuple[float, Interval]:
        """model − other."""
        return self.values[model] - self.values[other], _interval(self.resampled[model] - self.resampled[other])


def scores(found: Mapping[str, np.ndarray], original: str, labels: np.ndarray | None, seed: int = 0) -> Scores:
    """`found`: outputs of every model on the same samples, that of `original` among them."""
    n = len(found[original])
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float32)  # how often a resample has each sample
    noise = SignalToNoise()
    reference = [found[original]]
    sqnr = {name: noise.total(noise.rows(Evaluated({}, [values], reference=reference))) for name, values in found.items()}
    if labels is not None:
        hits = {name: (logits.argmax(1) == labels).astype(np.float32) for name, logits in found.items()}
        resampled = {name: counts @ hit / n for name, hit in hits.items()}
        return Scores("accuracy", {name: float(hit.mean()) for name, hit in hits.items()}, resampled, sqnr)
    ranks = {name: _similarity_ranks(embeddings) for name, embeddings in found.items()}
    ones = np.ones((1, n), np.float32)
    values = {name: float(_correlation(r, ranks[original], ones)[0]) for name, r in ranks.items()}
    return Scores("Spearman", values, {name: _correlation(r, ranks[original], counts) for name, r in ranks.items()}, sqnr)


def _similarity_ranks(embeddings: np.ndarray) -> np.ndarray:
    """Ranks, scaled to [-1, 1], of the cosine similarities of all pairs: (n, n), symmetric, with 0 on the diagonal."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    n = len(unit)
    rows, columns = np.triu_indices(n, 1)
    order = (unit @ unit.T)[rows, columns].argsort()
    rank = np.empty(order.size)
    rank[order] = np.linspace(-1, 1, order.size)
    result = np.zeros((n, n))
    result[rows, columns] = result[columns, rows] = rank
    return result


def _correlation(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Correlation of two matrices over the pairs of different samples in each resample, weighted by how often a pair is there."""
    off_diagonal = 1 - np.eye(len(a))

    def total(matrix: np.ndarray) -> np.ndarray:
        return np.einsum("ri,ri->r", counts @ matrix, counts)

    pairs = total(off_diagonal)
    mean_a, mean_b = total(a) / pairs, total(b) / pairs
    covariance = total(a * b) / pairs - mean_a * mean_b
    return covariance / np.sqrt((total(a * a) / pairs - mean_a**2) * (total(b * b) / pairs - mean_b**2))


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
