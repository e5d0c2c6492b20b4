"""What an interval says about a difference: better, worse, the same, or that it can't say."""

from __future__ import annotations

from math import exp, log1p
from typing import Literal

from .sequential import Estimate

Verdict = Literal["better", "worse", "same", "inconclusive"]


def verdict(estimate: Estimate, tolerance: float, more_is_better: bool) -> Verdict:
    """The same: the whole interval of the ratio lies within ± tolerance. Better or worse: it excludes a ratio of 1."""
    within = log1p(tolerance)
    if -within <= estimate.low and estimate.high <= within:
        return "same"
    if estimate.low > 0:
        return "better" if more_is_better else "worse"
    if estimate.high < 0:
        return "worse" if more_is_better else "better"
    return "inconclusive"


def decided(estimate: Estimate, tolerance: float) -> bool:
    """Whether more data could hardly change the verdict: the interval lies wholly within the tolerance, or wholly beyond it."""
    within = log1p(tolerance)
    return (-within <= estimate.low and estimate.high <= within) or estimate.low > within or estimate.high < -within


def detectable(estimate: Estimate) -> float | None:
    """The smallest difference that could have been seen, as a share: the farther end of the interval from its middle."""
    reach = max(estimate.high - estimate.value, estimate.value - estimate.low)
    return None if reach > 5 else exp(reach) - 1
