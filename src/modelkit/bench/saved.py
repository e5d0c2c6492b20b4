"""Comparing what saved reports say. Needs no model, no runtime and no torch.

The figures were taken one after the other, maybe on different machines, so what changes between runs (the clock, the memory
layout, the neighbours) is in the difference and can't be seen in either report: their intervals are widened by BETWEEN_RUNS.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from itertools import takewhile
from math import hypot, inf, log
from pathlib import PurePath
from typing import Any

from modelkit.core.errors import MachineWarning, ModelkitError
from modelkit.report.records import Environment, Measurement, Model, Quality, Report

from .metric_result import MetricResult, exact_result, measured_result
from .metrics.metric import higher_is_better
from .metrics.registry import find_metric
from .sequential import Estimate
from .verdict import verdict

BETWEEN_RUNS = 0.05  # a share of latency: what two runs of the same model on the same idle machine may differ by
MEMORY_BETWEEN_RUNS = 0.01
SETTING = ("device", "threads", "batch_size")


def compare_saved(origins: Sequence[str], reports: Sequence[Report], tolerance: float) -> tuple[str, list[dict[str, Any]]]:
    """The baseline's name, and the candidates as a report's comparison has them: every measurement of the later reports beside
    that of the first report with the same setting, and the same place or file name. Warns (MachineWarning) of machines and
    versions that differ. Raises ModelkitError for reports that can't be compared."""
    old, found = reports[0], []
    baselines = set()
    for origin, new in zip(origins[1:], reports[1:], strict=True):
        comparable = _warn_of_machines(origins[0], old.environment, origin, new.environment)
        pairs = _pairs(origins[0], old, origin, new)
        for before, after in pairs:
            baselines.add(before.model)
            metrics = _metrics(old, new, before, after, tolerance, comparable)
            found.append(
                {
                    "model": after.model if len(pairs) == 1 or len({m.model for _, m in pairs}) == len(pairs) else _label(after),
                    "metrics": [asdict(metric) for metric in metrics],
                    "classes": _classes(origins[0], old, origin, new, before, after),
                    "flips": [],
                }
            )
    return baselines.pop() if len(baselines) == 1 else origins[0], found


def _pairs(origin: str, old: Report, other: str, new: Report) -> list[tuple[Measurement, Measurement]]:
    """Measurements of the same setting. The models are those of the same file name; one alone in its report needs none."""
    pairs = []
    subjects = [_subjects(report) for report in (old, new)]
    for after in subjects[1]:
        candidates = [before for before in subjects[0] if all(getattr(before, it) == getattr(after, it) for it in SETTING)]
        same_runtime = [before for before in candidates if before.runtime == after.runtime] or candidates
        alone = len({m.model for m in subjects[0]}) == 1 or len({m.model for m in subjects[1]}) == 1
        alike = {id(before): _common_end(before.model, after.model) for before in same_runtime}
        best = max(same_runtime, key=lambda before: alike[id(before)], default=None)
        if best is not None and (alone or alike[id(best)]):
            pairs.append((best, after))
    if not pairs:
        raise ModelkitError(
            f"{origin} and {other} have no measurement in common: same device, threads and batch size, and the same model name.",
            "Measure both with the same --device, --threads and --batch-size.",
        )
    return pairs


def _common_end(a: str, b: str) -> int:
    """How many of the last parts of two paths are equal."""
    parts = zip(reversed(PurePath(a).parts), reversed(PurePath(b).parts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], parts))


def _subjects(report: Report) -> list[Measurement]:
    """What a report is about: its output where it made one, else everything that it measured."""
    made = [m for m in report.measurements if report.output is not None and m.model == report.output.path]
    return made or report.measurements


def _label(measurement: Measurement) -> str:
    return f"{measurement.model} ({measurement.runtime}, batch {measurement.batch_size})"


def _metrics(
    old: Report, new: Report, before: Measurement, after: Measurement, tolerance: float, comparable: bool
) -> list[MetricResult]:
    found = []
    relative = _relative_error(before, after) if comparable and before.runtime == after.runtime else inf
    for name in ("p50", "p90", "p99"):
        values = getattr(before.latency_ms, name), getattr(after.latency_ms, name)
        found.append(_timed(f"latency_ms.{name}", *values, relative if name == "p50" else 2 * relative, tolerance))
    found.append(_timed("throughput_per_s", before.throughput_per_s.value, after.throughput_per_s.value, relative, tolerance))
    models = [_model(report, measured.model) for report, measured in ((old, before), (new, after))]
    for name in ("bytes", "parameters", "macs"):
        a, b = (None if model is None else getattr(model, name) for model in models)
        if a is not None or b is not None:
            found.append(exact_result(name, a, b, tolerance))
    if before.peak_memory_bytes and after.peak_memory_bytes:
        error = MEMORY_BETWEEN_RUNS if comparable else inf
        found.append(_timed("peak_memory_bytes", before.peak_memory_bytes, after.peak_memory_bytes, error, tolerance))
    if before.energy_j and after.energy_j:
        found.append(_timed("energy_j", before.energy_j, after.energy_j, relative, tolerance))
    for name in (name for name in before.quality if name in after.quality):
        found.append(_quality(name, before.quality[name], after.quality[name], tolerance))
    return found


def _timed(name: str, before: float, after: float, error: float, tolerance: float) -> MetricResult:
    at = log(before / after) if name.startswith("latency_ms") else log(after / before)
    return measured_result(name, before, after, Estimate(at, at - error, at + error), tolerance)


def _relative_error(before: Measurement, after: Measurement) -> float:
    """Half the width of the interval of the log ratio, from those of the two medians, and what changes between runs."""
    halves = []
    for it in (before, after):
        ends = it.latency_ms.ci95
        halves.append(inf if ends is None or min(ends) <= 0 else (log(ends[1]) - log(ends[0])) / 2)
    return hypot(*halves) + BETWEEN_RUNS


def _quality(name: str, before: Quality, after: Quality, tolerance: float) -> MetricResult:
    """Which examples each got right is not in a report, so the two are taken as independent: the interval is too wide rather
    than too narrow."""
    more = _higher_is_better(name)
    if before.value is None or after.value is None:
        return MetricResult(name, before.value, after.value, None, None, "inconclusive", more)
    difference = after.value - before.value
    half = [abs(it.ci95[1] - it.ci95[0]) / 2 if it.ci95 is not None else inf for it in (before, after)]
    ends = (difference - hypot(*half), difference + hypot(*half))
    scale = abs(before.value) or 1.0
    judged = verdict(Estimate(difference / scale, ends[0] / scale, ends[1] / scale), tolerance, more)
    ratio = after.value / before.value if before.value else None
    ratio_ends = (1 + ends[0] / before.value, 1 + ends[1] / before.value) if before.value > 0 and abs(ends[0]) < inf else None
    return MetricResult(
        name, before.value, after.value, ratio, ratio_ends, judged, more, None, difference, ends, "two independent intervals"
    )


def _higher_is_better(name: str) -> bool:
    try:
        return higher_is_better(find_metric(name))
    except ModelkitError:
        return True  # a metric of a plugin that is not installed here


def _model(report: Report, path: str) -> Model | None:
    return next((m for m in [*report.inputs, *filter(None, [report.output])] if m.path == path), None)


def _classes(origin: str, old: Report, other: str, new: Report, before: Measurement, after: Measurement) -> list[dict[str, Any]]:
    """Accuracy by class, where both reports are comparisons that have it."""
    tables = [_class_table(report, measured.model) for report, measured in ((old, before), (new, after))]
    if not all(tables):
        return []
    if tables[0].keys() != tables[1].keys():
        raise ModelkitError(f"{origin} and {other} were measured on different label sets.", "Measure both on the same data.")
    return [
        {"label": label, "baseline": tables[0][label][0], "candidate": value, "n": n, "p_value": None}
        for label, (value, n) in tables[1].items()
    ]


def _class_table(report: Report, model: str) -> dict[str | int, tuple[float | None, int]]:
    if report.comparison is None:
        return {}
    for candidate in report.comparison.candidates:
        if model in (candidate.model, report.comparison.baseline) and candidate.classes:
            mine = candidate.model == model
            return {it.label: (it.candidate if mine else it.baseline, it.n) for it in candidate.classes}
    return {}


def _warn_of_machines(origin: str, old: Environment, other: str, new: Environment) -> bool:
    """Whether times of the two may be compared."""
    facts = {
        "CPU": (old.cpu, new.cpu),
        "instruction sets": (", ".join(old.isa), ", ".join(new.isa)),
        "cores": (old.cores, new.cores),
        "GPU": (old.gpu or "none", new.gpu or "none"),
    }
    differ = [f"{name} {a} and {b}" for name, (a, b) in facts.items() if a != b]
    if differ:
        warnings.warn(
            MachineWarning(
                f"{origin} and {other} are from different machines ({'; '.join(differ)}): their times can't be compared. "
                "Measure both models on one machine with `modelkit compare BASELINE CANDIDATE`."
            ),
            stacklevel=4,
        )
    soft = {name for name in ("onnxruntime", "torch", "openvino") if old.packages.get(name) != new.packages.get(name)}
    changed = [f"{name} {old.packages.get(name)} and {new.packages.get(name)}" for name in sorted(soft)]
    if old.platform != new.platform:
        changed.append(f"{old.platform} and {new.platform}")
    if old.memory_bytes and not 0.9 < new.memory_bytes / old.memory_bytes < 1.1:
        changed.append(f"{old.memory_bytes / 2**30:.0f} and {new.memory_bytes / 2**30:.0f} GiB of memory")
    if changed:
        message = f"{origin} and {other} differ in {'; '.join(changed)}, which can change times too."
        warnings.warn(MachineWarning(message), stacklevel=4)
    return not differ
