"""`compare`: is a candidate faster, smaller and as good as the baseline? A verdict for each metric.

The method, and what it can promise, is told in docs/measurement.md."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf, log
from pathlib import Path
from typing import Any

import numpy as np

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.data import Dataset

from .contender import Conditions, Contender, Progress, check, contenders
from .cpu import usable_cores
from .inputs import check_same_inputs, quality_batch_size
from .launch import Started, launched
from .measurement import Measurement, Subject, measurement
from .metric_result import MetricResult, exact_result, fidelity_result, measured_result, quality_result
from .metrics.metric import Metric
from .noise import look, noise_before, noise_during, own_seconds, quiet_cpus, warn
from .paired import by_class, flips, paired_difference
from .quality import Answers, choose_metrics, evaluate, summarise
from .rounds import FEWEST, Round, play
from .sequential import Estimate, SequentialTest
from .statistics import student_quantile
from .verdict import decided

# The error allowed to each timing over all looks; together 3.5%. The median decides when to stop.
ALPHA = {"latency_ms.p50": 0.025, "latency_ms.p90": 0.003, "latency_ms.p99": 0.003, "throughput_per_s": 0.004}
ENOUGH = 10  # rounds that the smallest of these needs to say anything
RESOURCE_ALPHA = 0.05
ONE_START = 0.1  # what the luck of a single start may be worth, as it can't be seen then
FEW_RESOURCES = 0.03  # the same for memory and energy, of a few starts
WARM_UP_SECONDS = 0.2

SUMMARY: dict[str, Callable[[Array], float]] = {
    "latency_ms.p50": lambda samples: float(np.median(samples)),
    "latency_ms.p90": lambda samples: float(np.percentile(samples, 90)),
    "latency_ms.p99": lambda samples: float(np.percentile(samples, 99)),
    "throughput_per_s": lambda samples: float(np.mean(samples)),
}


@dataclass
class Compared:
    """A candidate beside the baseline. `classes` and `flips` are as the report has them."""

    model: str
    metrics: list[MetricResult]
    classes: list[dict[str, Any]] = field(default_factory=list)
    flips: list[dict[str, Any]] = field(default_factory=list)


def compare(
    models: Sequence[Subject],
    descriptions: Sequence[dict[str, Any]],
    runtime: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    batch_size: int | None = None,
    max_time: float = 30.0,
    tolerance: float = 0.01,
    limits: Sequence[float] = (),
    dataset: Dataset | None = None,
    metrics: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Measurement], list[Compared]]:
    """Measure the first model against each of the others, for `max_time` seconds at most, which stops when the verdict on the
    median latency is certain: the same within `tolerance`, or different by more. `limits`: speed-ups that must be told apart
    from too (gates). `descriptions` are the models as reports show them. Warns and raises as `measure` does."""
    report = progress or (lambda what, part: None)
    names, conditions = check(models, [runtime], device, threads, None if batch_size is None else [batch_size])
    check_same_inputs([subject.name for subject in models], [subject.model.graph for subject in models])
    wanted = choose_metrics(metrics, dataset, len(models))
    before, ours = look(device), own_seconds()
    warn(noise_before(before, conditions.threads, usable_cores()))
    with tempfile.TemporaryDirectory(prefix="modelkit-compare-") as temporary:
        folder = Path(temporary)
        report("converting", 0.0)
        here = next(iter(contenders(models, names, conditions, dataset, seed, folder).values()))
        answers: list[Answers] = []
        if dataset is not None:
            with launched(here, conditions, range(len(here)), 0.0, None, report) as started:
                answers = _answers(models, started, dataset, wanted, folder, partial(report, "evaluating"))
        stop = StoppingRule(len(models) - 1, tolerance, limits, seed)
        rounds = play(
            lambda order: launched(here, conditions, order, WARM_UP_SECONDS, quiet_cpus(conditions.threads)),
            len(here),
            max_time,
            stop,
            time.monotonic,
            np.random.default_rng(seed),
            partial(report, "measuring"),
        )
    warn(noise_during(before, look(device), own_seconds() - ours))
    measured = [_measured(here, conditions, rounds, index, answers, wanted, seed) for index in range(len(here))]
    found = []
    for index in range(1, len(models)):
        result = Compared(models[index].name, _timings(measured, rounds, stop, index, tolerance, seed))
        result.metrics += _resources(measured, rounds, index, tolerance, seed)
        result.metrics += _sizes(descriptions[0], descriptions[index], tolerance)
        if answers:
            assert dataset is not None
            _add_quality(result, answers[0], answers[index], dataset, wanted, tolerance, seed)
        found.append(result)
    return measured, found


class StoppingRule:
    """Told all rounds so far: whether every candidate's median latency is decided. Keeps the last estimates."""

    def __init__(self, candidates: int, tolerance: float, limits: Sequence[float], seed: int) -> None:
        self.estimates: list[Estimate] = []
        self._tests = [
            SequentialTest(ALPHA["latency_ms.p50"], np.random.default_rng((seed, index))) for index in range(candidates)
        ]
        self._tolerance = tolerance
        self._limits = [log(limit) for limit in limits if limit > 0]

    def __call__(self, rounds: Sequence[Round], time_share: float) -> bool:
        if len(rounds) < FEWEST:
            return False
        self.estimates = [
            test.look(by_round(rounds, index + 1, "latency_ms.p50"), time_share) for index, test in enumerate(self._tests)
        ]
        return len(rounds) >= ENOUGH and all(
            decided(it, self._tolerance) and not any(it.low < limit < it.high for limit in self._limits) for it in self.estimates
        )


def by_round(rounds: Sequence[Round], candidate: int, name: str) -> Array:
    """log(baseline / candidate) of each round."""
    summary = SUMMARY[name]
    return np.array([log(summary(laps[0].samples) / summary(laps[candidate].samples)) for laps in rounds])


def by_turn(rounds: Sequence[Round], candidate: int, name: str) -> Array:
    """log(baseline / candidate) of each turn."""
    summary = SUMMARY[name]
    return np.array(
        [log(summary(a) / summary(b)) for laps in rounds for a, b in zip(laps[0].blocks, laps[candidate].blocks, strict=True)]
    )


def _timings(
    measured: Sequence[Measurement], rounds: Sequence[Round], stop: StoppingRule, candidate: int, tolerance: float, seed: int
) -> list[MetricResult]:
    found = []
    for name, alpha in ALPHA.items():
        if name == "latency_ms.p50" and stop.estimates:
            estimate = stop.estimates[candidate - 1]
        else:
            estimate = _one_look(rounds, candidate, name, alpha, seed)
        values = [_timing(it, name) for it in (measured[0], measured[candidate])]
        found.append(measured_result(name, values[0], values[1], estimate, tolerance))
    return found


def _resources(
    measured: Sequence[Measurement], rounds: Sequence[Round], candidate: int, tolerance: float, seed: int
) -> list[MetricResult]:
    """Memory and energy, where they are known."""
    found = []
    on_device = measured[0].device == "cuda"
    for name, of in (("peak_memory_bytes", lambda lap: lap.peak(on_device)), ("energy_j", lambda lap: lap.energy)):
        before, after = getattr(measured[0], name), getattr(measured[candidate], name)
        known = [log(b / a) for laps in rounds if (a := of(laps[0])) and (b := of(laps[candidate]))]
        if before and after and known:
            found.append(measured_result(name, before, after, _few_or_many(np.array(known), seed), tolerance))
    return found


def _one_look(rounds: Sequence[Round], candidate: int, name: str, alpha: float, seed: int) -> Estimate:
    """A single look at the end. A few starts are trusted as Student's t does; of one alone the turns are looked at, and the luck
    of starting is allowed for."""
    test = SequentialTest(alpha, np.random.default_rng((seed, candidate)))
    if len(rounds) >= (FEWEST if alpha == ALPHA["latency_ms.p50"] else ENOUGH):
        return test.look(by_round(rounds, candidate, name), 1.0)
    if len(rounds) > 1:
        return _student(by_round(rounds, candidate, name), alpha)
    turns = by_turn(rounds, candidate, name)
    return (test.look(turns, 1.0) if len(turns) >= FEWEST else _student(turns, alpha)).widened(ONE_START)


def _student(values: Array, alpha: float) -> Estimate:
    """Student's t is safe for any symmetric noise (Efron 1969)."""
    at, n = float(values.mean()), len(values)
    half = student_quantile(n - 1, alpha / 2) * float(values.std(ddof=1)) / n**0.5 if n > 1 else inf
    return Estimate(at, at - half, at + half)


def _few_or_many(values: Array, seed: int) -> Estimate:
    if len(values) >= FEWEST:
        return SequentialTest(RESOURCE_ALPHA, np.random.default_rng(seed)).look(values, 1.0)
    return Estimate(float(np.median(values)), float(values.min()), float(values.max())).widened(FEW_RESOURCES)


def _timing(measured: Measurement, name: str) -> float:
    if name == "throughput_per_s":
        return measured.throughput_per_s.value
    return float(getattr(measured.latency_ms, name.rpartition(".")[2]))


def _sizes(before: dict[str, Any], after: dict[str, Any], tolerance: float) -> list[MetricResult]:
    return [exact_result(name, before[name], after[name], tolerance) for name in ("bytes", "parameters", "macs")]


def _measured(
    here: Sequence[Contender],
    conditions: Conditions,
    rounds: Sequence[Round],
    index: int,
    answers: Sequence[Answers],
    metrics: Sequence[Metric],
    seed: int,
) -> Measurement:
    found = measurement(here[index], conditions, [laps[index] for laps in rounds], seed)
    if answers:
        found.quality.update(summarise(answers[index].rows, metrics, seed))
    return found


def _answers(
    models: Sequence[Subject],
    started: Sequence[Started],
    dataset: Dataset,
    metrics: Sequence[Metric],
    folder: Path,
    progress: Callable[[float], None],
) -> list[Answers]:
    batch = quality_batch_size([subject.model.graph for subject in models], dataset)
    answers = evaluate([start.worker for start in started], dataset, metrics, batch, folder, progress)
    for subject, answer in zip(models, answers, strict=True):
        if answer.classes != answers[0].classes:
            raise ModelkitError(
                f"{models[0].name} chooses among {answers[0].classes or 'no'} classes and {subject.name} among "
                f"{answer.classes or 'no'}.",
                "Compare models with the same labels, or leave out --data.",
            )
    return answers


def _add_quality(
    result: Compared,
    baseline: Answers,
    candidate: Answers,
    dataset: Dataset,
    metrics: Sequence[Metric],
    tolerance: float,
    seed: int,
) -> None:
    for metric in metrics:
        rng = np.random.default_rng(seed)
        after = candidate.rows[metric.name]
        before = baseline.rows.get(metric.name)
        if before is None:
            result.metrics.append(fidelity_result(metric, metric.total(after), metric.interval(after, rng), tolerance))
        else:
            result.metrics.append(quality_result(metric, paired_difference(metric, before, after, rng), tolerance))
    labels = dataset.labels
    classes = labels is not None and labels.dtype.kind in "iu" and labels.ndim == 1
    if baseline.decisions is not None and candidate.decisions is not None:
        known = labels if classes else None
        result.flips = flips(baseline.decisions, candidate.decisions, known, dataset.places, dataset.class_names)
        if known is not None:
            right = [np.equal(it, known).astype(float) for it in (baseline.decisions, candidate.decisions)]
            result.classes = by_class(known, right[0], right[1], dataset.class_names)
