"""Two models on the same examples: how much quality fell, on which classes, and which answers flipped.

Right or wrong answers are compared by McNemar's exact test (McNemar 1947: only examples that flipped tell), their difference
by the adjusted interval of Bonett and Price (2012), which stays honest where nothing flipped. Every other metric is resampled
by examples, the same ones for both models (Efron 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any

import numpy as np

from modelkit.core.forms import Array

from .metrics.metric import Metric
from .statistics import RESAMPLES, Interval, Z, bootstrap_ends


@dataclass(frozen=True)
class Difference:
    """Candidate − baseline of a metric, with its 95% interval, and that of candidate / baseline. `p_value`: how likely flips
    as uneven as these are between models that are equally good; None where no test but the interval is made."""

    baseline: float
    candidate: float
    difference: float
    ci95: Interval
    ratio_ci95: Interval | None
    test: str
    p_value: float | None


def paired_difference(metric: Metric, baseline: Array, candidate: Array, rng: np.random.Generator) -> Difference:
    """Of the rows that two models gave for the same examples."""
    before, after = metric.total(baseline), metric.total(candidate)
    if _hits(baseline) and _hits(candidate):
        gained, lost = int((candidate > baseline).sum()), int((candidate < baseline).sum())
        ends = flip_interval(gained, lost, len(baseline))
        ratios = None if before <= 0 else (max(0.0, 1 + ends[0] / before), 1 + ends[1] / before)
        return Difference(before, after, after - before, ends, ratios, "McNemar, exact", mcnemar(gained, lost))
    n = len(baseline)
    differences, quotients = np.empty(RESAMPLES), np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rng.integers(n, size=n)
        a, b = metric.total(baseline[drawn]), metric.total(candidate[drawn])
        differences[i], quotients[i] = b - a, b / a if a else np.nan
    ratios = None if before <= 0 or np.isnan(quotients).any() else bootstrap_ends(quotients, n)
    return Difference(before, after, after - before, bootstrap_ends(differences, n), ratios, "paired bootstrap", None)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value: of the flips, how many went either way, against fair coins."""
    n, few = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(comb(n, k) for k in range(few + 1)) / 2**n)


def flip_interval(gained: int, lost: int, n: int) -> Interval:
    """The 95% interval of (gained − lost) / n (Bonett and Price 2012, eq. 3)."""
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * sqrt((up + down - (up - down) ** 2) / (n + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def by_class(labels: Array, baseline: Array, candidate: Array, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """Accuracy of both models (from their hits, one per example) on each class, with McNemar's p-value, adjusted for the number
    of classes (Holm 1979)."""
    found: list[dict[str, Any]] = []
    for label in np.unique(labels):
        mine = labels == label
        gained, lost = int((candidate[mine] > baseline[mine]).sum()), int((candidate[mine] < baseline[mine]).sum())
        found.append(
            {
                "label": class_name(label, names),
                "baseline": float(baseline[mine].mean()),
                "candidate": float(candidate[mine].mean()),
                "n": int(mine.sum()),
                "p_value": mcnemar(gained, lost),
            }
        )
    for record, adjusted in zip(found, holm([record["p_value"] for record in found]), strict=True):
        record["p_value"] = adjusted
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted so that all tests together err with 5% where each is held to 5% (Holm 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def flips(before: Array, after: Array, labels: Array | None, places: Array, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """The examples whose decision changed: their place in the data, both decisions, and the label where there is one."""
    return [
        {
            "index": int(places[i]),
            "before": class_name(before[i], names),
            "after": class_name(after[i], names),
            "label": None if labels is None else class_name(labels[i], names),
        }
        for i in np.flatnonzero(before != after)
    ]


def class_name(label: Any, names: Sequence[str] | None) -> str | int:
    return str(names[int(label)]) if names is not None and 0 <= int(label) < len(names) else int(label)


def _hits(rows: Array) -> bool:
    return rows.ndim == 1 and bool(np.isin(rows, (0, 1)).all())
