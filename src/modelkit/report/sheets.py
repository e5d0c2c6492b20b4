"""The report's full tables as plain text cells, for the renderers with room: Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import digest, figures
from .figures import NONE, amount, ratio, significant, size
from .records import AvailablePass, Candidate, Comparison, Environment, Flip, Model, PassRecord, Profile, Report

PASSED = {True: "passed", False: "failed", None: "not decided"}


@dataclass(frozen=True)
class Sheet:
    """`right`: the columns of numbers. Cells hold whatever names the model has: renderers escape them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()


def gates(report: Report) -> Sheet:
    lines = [(digest.gate_name(report, gate), figures.exact(gate.value), PASSED[gate.passed]) for gate in report.gates]
    return Sheet("Gates", ("Gate", "Value", "Result"), lines, frozenset({1}))


def common_setting(report: Report) -> str:
    """What all measurements have in common: "onnxruntime, cpu, 2 threads, batch 1"."""
    settings = dict.fromkeys(digest.setting(m) for m in report.measurements)
    batches = dict.fromkeys(f"batch {m.batch_size}" for m in report.measurements)
    return ", ".join([*settings] * (len(settings) == 1) + [*batches] * (len(batches) == 1))


def measurements(report: Report) -> Sheet:
    """A row per measurement; what is the same in all of them is left to `common_setting`."""
    metrics = digest.metric_names(report)
    energy = any(m.energy_j is not None for m in report.measurements)
    settings = len({digest.setting(m) for m in report.measurements}) > 1
    batches = len({m.batch_size for m in report.measurements}) > 1
    columns = ["Model", *["Runtime"] * settings, *["Batch"] * batches, "p50 ms", "Speed-up", *metrics, "Size", "Size ×"]
    columns += ["p90", "p99", "Mean", "Per second", "Memory", *["Energy J"] * energy]
    lines = []
    for row in digest.rows(report):
        m, t = row.measurement, row.measurement.latency_ms
        speedup = ratio(row.speedup) if row.speedup is None or row.speedup_is_clear else f"≈ {ratio(row.speedup)}"
        line = [
            row.name,
            *[digest.setting(m)] * settings,
            *[str(m.batch_size)] * batches,
            figures.milliseconds(t.p50, t.ci95),
            speedup,
        ]
        line += [*(_quality(row, metric) for metric in metrics), size(row.bytes), ratio(row.size_ratio)]
        line += [significant(t.p90), significant(t.p99), significant(t.mean), significant(m.throughput_per_s.value)]
        line += [size(m.peak_memory_bytes), *[significant(m.energy_j)] * energy]
        lines.append(line)
    return Sheet("Measurements", columns, lines, frozenset(range(1 + settings, len(columns))))


def _quality(row: digest.Row, metric: str) -> str:
    found = row.measurement.quality.get(metric)
    if found is None:
        return NONE
    change = row.quality_change(metric)
    text = figures.quality_with_interval(metric, found.value, found.ci95)
    return text if change is None else f"{text} ({digest.change_of(metric, change)})"


def comparison(report: Report, found: Comparison, candidate: Candidate) -> Sheet:
    names = digest.short_names(report)
    lines = [
        (
            m.name,
            figures.metric(m.name, m.baseline),
            figures.metric(m.name, m.candidate),
            figures.close_ratio(m.ratio),
            _interval(m.ci95),
            digest.verdict(m),
        )
        for m in candidate.metrics
    ]
    title = f"{names[candidate.model]} against {names[found.baseline]}"
    return Sheet(title, ("Metric", "Baseline", "Candidate", "Ratio", "95 % interval", "Verdict"), lines, frozenset({1, 2, 3, 4}))


def _interval(ends: Sequence[float] | None) -> str:
    return NONE if ends is None else f"{figures.close_ratio(ends[0])} to {figures.close_ratio(ends[1])}"


def classes(candidate: Candidate) -> Sheet:
    """The classes that lost most first."""
    lines = [
        (
            str(c.label),
            figures.quality("accuracy", c.baseline),
            figures.quality("accuracy", c.candidate),
            digest.change_of("accuracy", digest.class_change(c)),
            f"{c.n:,}",
            significant(c.p_value, 2),
        )
        for c in sorted(candidate.classes, key=digest.class_change)
    ]
    return Sheet("By class", ("Class", "Baseline", "Candidate", "Change", "Samples", "p"), lines, frozenset({1, 2, 3, 4, 5}))


def flips(candidate: Candidate, most: int) -> Sheet:
    lines = [
        (str(f.index), str(f.before), str(f.after), NONE if f.label is None else str(f.label), _turned(f))
        for f in candidate.flips[:most]
    ]
    return Sheet("Answers that flipped", ("Example", "Before", "After", "Label", "Turned"), lines)


def _turned(flip: Flip) -> str:
    if flip.label is None:
        return NONE
    return "wrong" if flip.before == flip.label else "right" if flip.after == flip.label else "from wrong to wrong"


def profile(found: Profile, title: str) -> Sheet:
    """Where the time goes, most first."""
    lines = [
        (layer.name, layer.op, significant(layer.ms), f"{100 * layer.share:.1f} %")
        for layer in sorted(found.layers, key=lambda layer: -layer.ms)
    ]
    return Sheet(title, ("Layer", "Operator", "ms", "Share"), lines, frozenset({2, 3}))


def models(report: Report) -> Sheet:
    columns = ("Model", "Format", "Size", "Parameters", "MACs", "Made by", "SHA-256")
    lines = [
        (m.path, m.format, size(m.bytes), amount(m.parameters), amount(m.macs), _made_by(m), m.sha256[:12])
        for m in digest.models(report)
    ]
    return Sheet("Models", columns, lines, frozenset({2, 3, 4}))


def _made_by(model: Model) -> str:
    return ", ".join(str(entry.get("pass", "?")) for entry in model.history) or NONE


def model_layers(model: Model) -> Sheet:
    lines = [
        (
            layer.name,
            layer.kind,
            figures.shape(layer.shape),
            amount(layer.parameters),
            amount(layer.macs),
            size(layer.bytes),
            NONE if layer.sparsity is None else f"{100 * layer.sparsity:.1f} %",
            layer.form,
        )
        for layer in model.layers
    ]
    columns = ("Layer", "Kind", "Shape", "Parameters", "MACs", "Bytes", "Zeros", "Form")
    return Sheet("Layers", columns, lines, frozenset({3, 4, 5, 6}))


def pass_layers(record: PassRecord) -> Sheet:
    lines = []
    for x in record.layers:
        after = (x.form, size(x.bytes_before), size(x.bytes_after), significant(x.error, 2))
        lines.append((x.name, x.kind, figures.shape(x.shape), *after, x.skipped or ""))
    columns = ("Layer", "Kind", "Shape", "Form", "Before", "After", "Error", "Left because")
    return Sheet("Layers", columns, lines, frozenset({4, 5, 6}))


def forms(record: PassRecord) -> Sheet:
    lines = [
        (
            group.form,
            str(group.layers),
            size(group.bytes_before),
            size(group.bytes_after),
            NONE if group.worst is None else f"{significant(group.worst.error, 2)} ({group.worst.name})",
        )
        for group in digest.by_form(record)
    ]
    return Sheet("Forms", ("Form", "Layers", "Before", "After", "Largest error"), lines, frozenset({1, 2, 3}))


def options(found: AvailablePass) -> Sheet:
    lines = [
        (o.name, o.type, str(o.default), NONE if o.bounds is None else " to ".join(map(str, o.bounds)), o.help)
        for o in found.options
    ]
    return Sheet(f"{found.name}: {found.summary}", ("Option", "Type", "Default", "Bounds", "Meaning"), lines)


def environment(found: Environment) -> Sheet:
    lines = [
        ("CPU", f"{found.cpu}, {figures.plural(found.cores, 'core')}"),
        ("Instructions", ", ".join(found.isa) or NONE),
        ("Memory", size(found.memory_bytes)),
        ("GPU", found.gpu or "none"),
        ("System", f"{found.platform}, Python {found.python}"),
        ("Packages", ", ".join(f"{name} {version}" for name, version in found.packages.items())),
    ]
    return Sheet("Environment", ("", ""), lines)


def pass_options(record: PassRecord) -> str:
    return ", ".join(f"{key}={value}" for key, value in record.options.items())
