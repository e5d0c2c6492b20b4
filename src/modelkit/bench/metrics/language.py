"""How well a language model predicts the next token."""

from __future__ import annotations

import numpy as np

from modelkit.bench.statistics import Interval, bootstrap_interval
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array

from .distance import log_probabilities
from .metric import Evaluated, Needs

IGNORED = -100  # label of a position that does not count, as in transformers
LARGEST_EXPONENT = 700.0  # JSON knows no infinity


class Perplexity:
    """exp of the mean negative log-likelihood per token. Position i of the first output (n, length, vocabulary) predicts token
    i + 1 of the labels, which are the token ids; without labels, the ids are the integer input of shape (n, length)."""

    name = "perplexity"
    higher_is_better = False
    needs: Needs = "feeds"

    def rows(self, batch: Evaluated) -> Array:
        scores = batch.outputs[0]
        tokens = _tokens(batch)
        if scores.ndim != 3 or tokens is None or tokens.shape != scores.shape[:2]:
            raise ModelkitError(
                f"The metric perplexity needs an output of (samples, length, vocabulary) and token ids, but the first output is "
                f"{tuple(scores.shape)}.",
                "Use it with a language model and --data of text, or use another --metric.",
            )
        losses, counts = [], []
        for sample, ids in zip(scores, tokens, strict=True):  # one at a time: a vocabulary in float64 is large
            targets = ids[1:]
            held = targets != IGNORED
            likelihoods = log_probabilities(sample[:-1][held])
            losses.append(-likelihoods[np.arange(len(likelihoods)), targets[held]].sum())
            counts.append(held.sum())
        return np.stack([np.array(losses), np.array(counts, dtype=np.float64)], axis=1)

    def total(self, rows: Array) -> float:
        loss, tokens = rows.sum(axis=0)
        return float(np.exp(min(loss / max(tokens, 1.0), LARGEST_EXPONENT)))

    def interval(self, rows: Array, rng: np.random.Generator) -> Interval:
        return bootstrap_interval(rows, self.total, rng)


def _tokens(batch: Evaluated) -> Array | None:
    if batch.labels is not None:
        return batch.labels
    found = [array for array in batch.feeds.values() if array.dtype.kind in "iu" and array.ndim == 2]
    return batch.feeds.get("input_ids", found[0] if found else None)
