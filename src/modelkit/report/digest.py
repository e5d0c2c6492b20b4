"""What every renderer says about a report: short names, measurements against the first model, layers by form, the headline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from . import figures
from .records import ClassMetric, Gate, LayerRecord, Measurement, Metric, Model, PassRecord, Quality, Report

LUCK = 1.03
HIGHER_IS_BETTER = frozenset({"accuracy", "top5", "agreement", "cosine", "sqnr", "spearman"})


def models(report: Report) -> list[Model]:
    """The report's models by path, once each."""
    found = {model.path: model for model in report.inputs}
    if report.output is not None:
        found.setdefault(report.output.path, report.output)
    return list(found.values())


def short_names(report: Report) -> dict[str, str]:
    """File names for paths; where two are equal, with as many folders as tell them apart."""
    paths = dict.fromkeys([*(m.path for m in models(report)), *(m.model for m in report.measurements)])
    if report.comparison is not None:
        paths |= dict.fromkeys([report.comparison.baseline, *(c.model for c in report.comparison.candidates)])
    parts = {path: PurePath(path).parts or (path,) for path in paths}
    depth = 1
    while depth < max(map(len, parts.values()), default=1) and len({p[-depth:] for p in parts.values()}) < len(parts):
        depth += 1
    return {path: figures.printable(PurePath(*p[-depth:])) for path, p in parts.items()}


@dataclass(frozen=True)
class Row:
    """A measurement beside the first one of the same batch size. Ratios are None for that one itself. `speedup_is_clear`: the
    confidence intervals of the two medians do not overlap."""

    measurement: Measurement
    baseline: Measurement
    name: str
    bytes: int | None
    speedup: float | None
    speedup_is_clear: bool
    size_ratio: float | None

    def quality_change(self, metric: str) -> float | None:
        now, before = self.measurement.quality.get(metric), self.baseline.quality.get(metric)
        if self.measurement is self.baseline or now is None or before is None or now.value is None or before.value is None:
            return None
        return now.value - before.value


def rows(report: Report) -> list[Row]:
    names = short_names(report)
    sizes = {model.path: model.bytes for model in models(report)}
    first: dict[int, Measurement] = {}
    judged = _judged_latencies(report)
    found = []
    for m in report.measurements:
        base = first.setdefault(m.batch_size, m)
        alone = base is m
        here, there = sizes.get(m.model), sizes.get(base.model)
        found.append(
            Row(
                measurement=m,
                baseline=base,
                name=names[m.model],
                bytes=here,
                speedup=None if alone or not m.latency_ms.p50 else base.latency_ms.p50 / m.latency_ms.p50,
                speedup_is_clear=not alone and judged.get(m.model, _apart(base.latency_ms.ci95, m.latency_ms.ci95)),
                size_ratio=None if alone or here is None or not there else here / there,
            )
        )
    return found


def _judged_latencies(report: Report) -> dict[str, bool]:
    """Whether a comparison found the median latency of a model to differ, which it sees better than two intervals do."""
    candidates = report.comparison.candidates if report.comparison is not None else []
    return {
        candidate.model: metric.verdict in ("better", "worse")
        for candidate in candidates
        for metric in candidate.metrics
        if metric.name == "latency_ms.p50"
    }


def gate_name(report: Report, gate: Gate) -> str:
    """With its model, where there are several that it could be about."""
    if gate.model is None or report.comparison is None or len(report.comparison.candidates) < 2:
        return gate.gate
    return f"{gate.gate} ({short_names(report).get(gate.model, gate.model)})"


def class_change(found: ClassMetric) -> float:
    return (found.candidate or 0.0) - (found.baseline or 0.0)


def verdict(metric: Metric) -> str:
    """The verdict, and of one that could not be reached what would have been seen."""
    if metric.verdict != "inconclusive" or metric.detectable is None:
        return metric.verdict
    return f"inconclusive (saw ≥ {figures.significant(100 * metric.detectable, 2)} %)"


def _apart(a: Sequence[float] | None, b: Sequence[float] | None) -> bool:
    """Whether two intervals of latency differ by more than the luck of a process, which is in neither."""
    return a is not None and b is not None and (a[1] * LUCK < b[0] or b[1] * LUCK < a[0])


def metric_names(report: Report) -> list[str]:
    return list(dict.fromkeys(name for m in report.measurements for name in m.quality))


def setting(m: Measurement) -> str:
    return f"{m.runtime}, {m.device}, {figures.plural(m.threads, 'thread')}"


@dataclass(frozen=True)
class FormGroup:
    """The changed layers of one form. `worst` is the one with the largest error, None where none is known."""

    form: str
    layers: int
    bytes_before: int
    bytes_after: int
    worst: LayerRecord | None


def by_form(record: PassRecord) -> list[FormGroup]:
    groups: dict[str, list[LayerRecord]] = {}
    for layer in record.layers:
        if layer.skipped is None:
            groups.setdefault(layer.form, []).append(layer)
    return [
        FormGroup(
            form,
            len(layers),
            sum(layer.bytes_before for layer in layers),
            sum(layer.bytes_after for layer in layers),
            max((layer for layer in layers if layer.error is not None), key=lambda layer: layer.error or 0.0, default=None),
        )
        for form, layers in groups.items()
    ]


def skip_reasons(record: PassRecord) -> list[tuple[str, list[str]]]:
    """(reason, names of the layers), the most frequent first."""
    counts = Counter(layer.skipped for layer in record.layers if layer.skipped is not None)
    return [(reason, [layer.name for layer in record.layers if layer.skipped == reason]) for reason, _ in counts.most_common()]


@dataclass(frozen=True)
class Tile:
    """One figure of the headline. `good`: True or False where it is plainly one, else None."""

    label: str
    value: str
    detail: str
    good: bool | None = None


def headline(report: Report) -> list[Tile]:
    """The few figures that a reader wants first."""
    found = []
    subject = _subject(report)
    if subject is not None:
        found += _measured(subject, metric_names(report))
    before = report.inputs[0] if report.inputs else None
    if (subject is None or subject.size_ratio is None) and before is not None and report.output is not None and before.bytes:
        share = report.output.bytes / before.bytes
        detail = f"{figures.size(before.bytes)} → {figures.size(report.output.bytes)}"
        found.append(Tile("Size", figures.ratio(share), detail, _smaller(share)))
    for record in report.passes:
        changed = [layer for layer in record.layers if layer.skipped is None]
        errors = [layer.error for layer in changed if layer.error is not None]
        detail = f"largest error {figures.significant(max(errors), 2)}" if errors else record.name
        found.append(Tile("Layers changed", f"{len(changed)} of {len(record.layers)}", detail))
    return found


def headline_subject(report: Report) -> str | None:
    """Which models the headline compares, None where there are no more than two to choose from."""
    subject = _subject(report)
    if subject is None or len({m.model for m in report.measurements}) < 3:
        return None
    return f"{subject.name} against {short_names(report)[subject.baseline.model]}"


def _subject(report: Report) -> Row | None:
    """The measurement that the report is about: that of the output, else of the last model; at the first batch size."""
    if not report.measurements:
        return None
    candidates = [
        r for r in rows(report) if r.measurement.batch_size == report.measurements[0].batch_size and r.speedup is not None
    ]
    made = [r for r in candidates if report.output is not None and r.measurement.model == report.output.path]
    chosen = made or candidates
    return chosen[-1] if chosen else None


def _measured(row: Row, metrics: Sequence[str]) -> list[Tile]:
    now, before = row.measurement.latency_ms, row.baseline.latency_ms
    good = None if not row.speedup_is_clear or row.speedup is None else row.speedup > 1
    unclear = "" if row.speedup_is_clear else ", within noise"
    detail = f"{figures.significant(before.p50)} → {figures.significant(now.p50)} ms{unclear}"
    found = [Tile("Speed-up", figures.ratio(row.speedup), detail, good)]
    if row.size_ratio is not None and row.bytes is not None:
        found.append(
            Tile(
                "Size",
                figures.ratio(row.size_ratio),
                f"{_size_before(row)} → {figures.size(row.bytes)}",
                _smaller(row.size_ratio),
            )
        )
    for metric in metrics[:1]:
        change = row.quality_change(metric)
        if change is not None:
            found.append(_quality_tile(metric, change, row.baseline.quality[metric], row.measurement.quality[metric]))
    return found


def _smaller(share: float) -> bool | None:
    return None if 0.995 < share < 1.005 else share < 1


def _size_before(row: Row) -> str:
    return figures.size(round((row.bytes or 0) / row.size_ratio)) if row.size_ratio else figures.NONE


def _quality_tile(metric: str, change: float, before: Quality, now: Quality) -> Tile:
    detail = f"{figures.quality(metric, before.value)} → {figures.quality(metric, now.value)}"
    worse = change < 0 if metric in HIGHER_IS_BETTER else change > 0
    outside = now.value is not None and before.ci95 is not None and not before.ci95[0] <= now.value <= before.ci95[1]
    return Tile(metric.capitalize(), change_of(metric, change), detail, not worse if outside else None)


def change_of(metric: str, change: float) -> str:
    """A change of a quality metric with its sign: shares in points of a per cent."""
    if metric in figures.SHARES:
        return f"{100 * change:+.2f} pt".replace("-", "−")
    return f"{'+' if change >= 0 else '−'}{figures.significant(abs(change))}"
