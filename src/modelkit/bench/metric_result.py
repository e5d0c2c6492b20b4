"""A metric of two models side by side, as reports show it: the ratio, how far it can be trusted, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log

from .metrics.metric import Metric, higher_is_better
from .paired import Difference
from .sequential import Estimate
from .statistics import Interval
from .verdict import Verdict, detectable, verdict


@dataclass(frozen=True)
class MetricResult:
    """`ratio` is baseline / candidate for latencies (above 1 is faster), else candidate / baseline; `ci95` is its interval.
    `detectable`: the smallest difference that could have been seen, as a share. `difference` is candidate − baseline, for
    quality."""

    name: str
    baseline: float | None
    candidate: float | None
    ratio: float | None
    ci95: Interval | None
    verdict: Verdict
    higher_is_better: bool | None = None
    detectable: float | None = None
    difference: float | None = None
    difference_ci95: Interval | None = None
    test: str | None = None
    p_value: float | None = None


def measured_result(name: str, baseline: float, candidate: float, estimate: Estimate, tolerance: float) -> MetricResult:
    """`estimate` is of the log ratio, in the direction that the ratio has."""
    faster = name.startswith("latency_ms")
    ratio = baseline / candidate if faster else candidate / baseline
    ends = None
    if estimate.low > -inf and estimate.high < inf:
        ends = (min(exp(estimate.low), ratio), max(exp(estimate.high), ratio))  # the ratio is of the medians of all samples
    found = verdict(estimate, tolerance, faster or name == "throughput_per_s")
    return MetricResult(name, baseline, candidate, ratio, ends, found, detectable=detectable(estimate))


def exact_result(name: str, baseline: int | None, candidate: int | None, tolerance: float) -> MetricResult:
    """Of what is counted, not measured: fewer is better."""
    if baseline is None or candidate is None:
        return MetricResult(name, baseline, candidate, None, None, "inconclusive")
    if not baseline or not candidate:
        found: Verdict = "same" if baseline == candidate else "better" if candidate < baseline else "worse"
        return MetricResult(name, baseline, candidate, None if not baseline else 0.0, None, found, detectable=0.0)
    at = log(candidate / baseline)
    found = verdict(Estimate(at, at, at), tolerance, more_is_better=False)
    return MetricResult(name, baseline, candidate, candidate / baseline, None, found, detectable=0.0)


def quality_result(metric: Metric, found: Difference, tolerance: float) -> MetricResult:
    """Of a metric that both models have on the same examples."""
    more = higher_is_better(metric)
    if found.ratio_ci95 is not None and found.candidate > 0:
        low, high = (log(end) if end > 0 else -inf for end in found.ratio_ci95)
        estimate = Estimate(log(found.candidate / found.baseline), low, high)
        seen = detectable(estimate)
        judged = verdict(estimate, tolerance, more)
        ratio: float | None = found.candidate / found.baseline
    else:  # no ratio makes sense: the difference itself is judged
        estimate = Estimate(found.difference, *found.ci95)
        seen, judged = None, verdict(estimate, tolerance, more)
        ratio = found.candidate / found.baseline if found.baseline else None
    return MetricResult(
        metric.name,
        found.baseline,
        found.candidate,
        ratio,
        found.ratio_ci95,
        judged,
        more,
        seen,
        found.difference,
        found.ci95,
        found.test,
        found.p_value,
    )


def fidelity_result(metric: Metric, value: float, ci95: Interval, tolerance: float) -> MetricResult:
    """Of a metric against the baseline, which the baseline itself would meet perfectly: a share of 1 (agreement, cosine), a
    distance of 0 (kl), or a signal without noise, whose noise is taken as a share of the signal (sqnr)."""
    if metric.name == "sqnr":
        noise = Estimate(*(10 ** (-end / 20) for end in (value, ci95[1], ci95[0])))
        return MetricResult("sqnr", None, value, None, None, _fidelity(noise, tolerance), True)
    perfect = 1.0 if higher_is_better(metric) else 0.0
    lost = Estimate(abs(perfect - value), *sorted(abs(perfect - end) for end in ci95))
    ratio, ends = (value, ci95) if perfect else (None, None)
    return MetricResult(
        metric.name,
        perfect,
        value,
        ratio,
        ends,
        _fidelity(lost, tolerance),
        bool(perfect),
        difference=value - perfect,
        difference_ci95=(ci95[0] - perfect, ci95[1] - perfect),
    )


def _fidelity(lost: Estimate, tolerance: float) -> Verdict:
    """There is no better than the original itself."""
    if lost.high <= tolerance:
        return "same"
    return "worse" if lost.low > tolerance else "inconclusive"
