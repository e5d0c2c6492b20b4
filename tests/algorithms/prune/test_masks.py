"""Masks against their definition."""

import numpy as np
import pytest

from modelkit.algorithms.prune.masks import largest
from modelkit.algorithms.prune.wanda import wanda
from modelkit.core.errors import ModelkitError
from modelkit.core.sparsity import Sparsity

HALF = Sparsity.parse(0.5, "unstructured")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.77])
def test_of_a_matrix_the_smallest_go(share):
    scores = np.random.default_rng(0).random((7, 12))
    mask = largest(scores, Sparsity.parse(share, "unstructured"))
    assert (~mask).sum() == round(share * 84)
    assert scores[~mask].max() <= scores[mask].min()


def test_by_row_each_row_loses_the_same():
    scores = np.random.default_rng(0).random((7, 12)) * np.arange(1, 8)[:, None]
    mask = largest(scores, HALF, per_row=True)
    assert (mask.sum(1) == 6).all()


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8", "3:4"])
def test_of_every_m_in_a_row_n_stay(pattern):
    kept, of = map(int, pattern.split(":"))
    scores = np.random.default_rng(0).random((5, 3 * of))
    mask = largest(scores, Sparsity.parse(1 - kept / of, pattern))
    for row, chosen in zip(scores, mask, strict=True):
        for start in range(0, 3 * of, of):
            group = slice(start, start + of)
            assert set(np.flatnonzero(chosen[group])) == set(np.argsort(row[group])[of - kept :])


def test_equal_scores_lose_exactly_as_many():
    assert largest(np.ones((4, 4)), HALF).sum() == 8


def test_wanda_is_its_equation():
    rng = np.random.default_rng(0)
    W, X = rng.standard_normal((6, 10)), rng.standard_normal((50, 10)) * rng.random(10) * 9
    mask = wanda(W, np.sqrt((X**2).mean(0)), HALF)
    for i in range(6):
        scores = [abs(W[i, j]) * np.linalg.norm(X[:, j]) for j in range(10)]
        assert set(np.flatnonzero(mask[i])) == set(np.argsort(scores)[5:])


@pytest.mark.parametrize(
    ("share", "pattern", "word"),
    [(0, "unstructured", "between"), (1, "unstructured", "between"), (float("nan"), "unstructured", "between"),
     (0.5, "diagonal", "unknown"), (0.5, "4:4", "keeps"), (0.5, "0:4", "keeps"), (0.6, "2:4", "0.5")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(share, pattern, word):
    with pytest.raises(ModelkitError, match=word):
        Sparsity.parse(share, pattern)
