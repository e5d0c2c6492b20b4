"""A report as one HTML file: no script, no network, every name escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from . import charts, digest, figures, sheets
from .records import Candidate, Comparison, LayerRecord, Measurement, PassRecord, Profile, Report
from .sheets import Sheet
from .style import STYLE

LONG = 40  # layer tables longer than this are folded away
JUDGED = ("Result", "Verdict")
VERDICTS = {"passed": "good", "better": "good", "failed": "bad", "worse": "bad", "same": "muted"}
MOST_FLIPS = 200
MOST_CLASSES = 20
TOLERANCE = 0.01  # of the band in the chart of ratios
MOST = 3000  # layers shown; a page of more is slow to open, and past its size limit


def to_html(report: Report) -> str:
    title = _title(report)
    body = "\n".join(_parts(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{_text(title)}</h1><p>{_text(_under(report))}</p></header>\n{body}\n"
        f"<footer>modelkit {_text(report.modelkit)} · {figures.significant(report.seconds)} s · {report.version}</footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def _text(text: object) -> str:
    return escape(figures.printable(text))


def _title(report: Report) -> str:
    names = digest.short_names(report)
    subjects = ", ".join(names[model.path] for model in report.inputs[:3]) + (", …" if len(report.inputs) > 3 else "")
    return f"modelkit {report.command}" + (f": {subjects}" if subjects else "")


def _under(report: Report) -> str:
    where = f"{report.environment.cpu}, {figures.plural(report.environment.cores, 'core')}"
    where += f", {report.environment.gpu}" if report.environment.gpu else ""
    return f"→ {report.output.path} · {where}" if report.output is not None else where


def _parts(report: Report) -> Iterator[str]:
    yield _tiles(report)
    yield from (f'<p class="warning">{_text(warning)}</p>' for warning in report.warnings)
    if report.gates:
        yield "<h2>Gates</h2>" + _table(sheets.gates(report))
    if report.comparison is not None:
        yield "<h2>Comparison</h2>"
        for candidate in report.comparison.candidates:
            yield from _candidate(report, report.comparison, candidate)
    if report.measurements:
        yield "<h2>Measurements</h2>"
        yield f'<p class="muted">{_text(sheets.common_setting(report))}</p>'
        yield _charts(_measured(report)) + _table(sheets.measurements(report))
        yield '<p class="muted">Against the first model. Whiskers and ± are 95 % intervals; ≈: within the noise.</p>'
    for m in report.measurements:
        if m.profile is not None:
            yield from _profile(m, m.profile, digest.short_names(report)[m.model])
    for record in report.passes:
        yield from _pass(record)
    for model in report.inputs if report.command == "inspect" else []:
        yield f"<h2>{_text(model.path)}</h2>{_table(sheets.model_layers(model))}"
    for found in report.available or []:
        yield f"<h2>{_text(found.name)}</h2><p>{_text(found.summary)}</p>" + (
            _table(sheets.options(found)) if found.options else ""
        )
    if report.advice:
        yield f"<h2>Advice</h2><ul>{''.join(f'<li>{_text(line)}</li>' for line in report.advice)}</ul>"
    if report.inputs:
        yield "<h2>Models</h2>" + _table(sheets.models(report))
    yield "<h2>Environment</h2>" + _table(sheets.environment(report.environment), "facts")


def _candidate(report: Report, found: Comparison, candidate: Candidate) -> Iterator[str]:
    sheet = sheets.comparison(report, found, candidate)
    yield f"<h3>{_text(sheet.title)}</h3>{_charts(_compared(candidate))}{_table(sheet)}"
    if candidate.classes:
        yield _folded("By class", _table(sheets.classes(candidate)), len(candidate.classes))
    if candidate.flips:
        shown = f", the first {MOST_FLIPS} of them" if len(candidate.flips) > MOST_FLIPS else ""
        summary = f"{figures.plural(len(candidate.flips), 'answer')} flipped{shown}"
        yield _folded(summary, _table(sheets.flips(candidate, MOST_FLIPS)), len(candidate.flips))


def _compared(candidate: Candidate) -> Iterator[tuple[str, str]]:
    effects = [
        charts.Effect(m.name, m.ratio, m.ci95, m.verdict, f"{figures.close_ratio(m.ratio)} {m.verdict}")
        for m in candidate.metrics
        if m.ratio is not None and m.ratio > 0
    ]
    if effects:
        yield "Ratios with their intervals", charts.effects("Ratios with their intervals", effects, TOLERANCE)
    worst = sorted(candidate.classes, key=digest.class_change)
    if worst:
        shown = worst[:MOST_CLASSES]
        rows = [
            charts.Change(
                str(c.label), c.baseline or 0.0, c.candidate or 0.0, digest.change_of("accuracy", digest.class_change(c))
            )
            for c in shown
        ]
        title = "Accuracy by class" if len(shown) == len(worst) else f"Accuracy of the {len(shown)} classes that lost most"
        yield title, charts.changes(title, rows)


def _profile(m: Measurement, found: Profile, name: str) -> Iterator[str]:
    sheet = sheets.profile(found, f"{name}, {digest.setting(m)}")
    yield f"<h2>{_text(f'Time by layer: {m.runtime}')}</h2>{_charts(_times(found))}"
    yield f'<p class="muted">{_text(f"Trace for ui.perfetto.dev: {found.trace}")}</p>'
    yield _folded(sheet.title, _table(sheet), len(sheet.rows))


def _times(found: Profile) -> Iterator[tuple[str, str]]:
    times = [layer.ms for layer in found.layers]
    note = f"{figures.significant(sum(times))} ms in {figures.plural(len(times), 'operator')}"
    yield "Time of each operator", charts.profile("Time by operator", times, note)
    most = sorted(found.layers, key=lambda layer: -layer.ms)[:8]
    bars = [charts.Bar(layer.name, layer.ms, f"{figures.significant(layer.ms)} ms, {layer.share:.0%}", 1) for layer in most]
    yield "Slowest operators", charts.bars("Slowest operators", bars)


def _tiles(report: Report) -> str:
    tiles = digest.headline(report)
    css = {True: ' class="good"', False: ' class="bad"', None: ""}
    cells = [
        f'<div class="tile"><span>{_text(t.label)}</span><b{css[t.good]}>{_text(t.value)}</b><span>{_text(t.detail)}</span></div>'
        for t in tiles
    ]
    about = digest.headline_subject(report)
    return (f'<p class="about">{_text(about)}</p>' if about else "") + (
        f'<div class="tiles">{"".join(cells)}</div>' if cells else ""
    )


def _table(sheet: Sheet, css: str = "") -> str:
    right = [' class="r"' if i in sheet.right else "" for i in range(len(sheet.columns))]
    head = "".join(f"<th{right[i]}>{_text(name)}</th>" for i, name in enumerate(sheet.columns))
    head = f"<thead><tr>{head}</tr></thead>" if any(sheet.columns) else ""
    judged = len(sheet.columns) - 1 if sheet.columns[-1] in JUDGED else None
    body = ""
    for row in sheet.rows:
        cells = [f"<td{right[i]}>{_judgement(cell) if i == judged else _text(cell)}</td>" for i, cell in enumerate(row)]
        body += f"<tr>{''.join(cells)}</tr>"
    named = f' class="{css}"' if css else ""
    return f'<div class="scroll"><table{named}>{head}<tbody>{body}</tbody></table></div>'


def _judgement(cell: str) -> str:
    return f'<span class="{VERDICTS.get(cell, "undecided")}">{_text(cell)}</span>'


def _folded(summary: str, content: str, count: int = LONG + 1) -> str:
    return f"<details{'' if count > LONG else ' open'}><summary>{_text(summary)}</summary>{content}</details>"


def _charts(found: Iterable[tuple[str, str]]) -> str:
    cards = "".join(f'<div class="card"><h3>{_text(title)}</h3>{svg}</div>' for title, svg in found)
    return f'<div class="charts">{cards}</div>' if cards else ""


def _measured(report: Report) -> Iterator[tuple[str, str]]:
    """(title, chart) for every figure that was measured, models in the order of the report."""
    rows = digest.rows(report)
    several = len({digest.setting(row.measurement) for row in rows}) > 1
    subjects = {(row.measurement.model, digest.setting(row.measurement)): row for row in reversed(rows)}
    colour = {subject: i for i, subject in enumerate(reversed(subjects))}
    each = [(_label(row, several), row, colour[subject]) for subject, row in reversed(subjects.items())]
    batches = list(dict.fromkeys(r.measurement.batch_size for r in rows))
    files = {row.measurement.model: (row, series) for _, row, series in reversed(each)}
    sizes = [
        charts.Bar(row.name, row.bytes, figures.size(row.bytes), s)
        for row, s in reversed(files.values())
        if row.bytes is not None
    ]
    metrics = digest.metric_names(report)
    for i, batch in enumerate(batches):
        here = [row for row in rows if row.measurement.batch_size == batch]
        which = f", batch {batch}" if len(batches) > 1 else ""
        series = [colour[row.measurement.model, digest.setting(row.measurement)] for row in here]
        yield from _speed([_label(row, several) for row in here], here, series, which)
        if i == 0 and sizes:
            yield "Size of the model's files", charts.bars("Size", sizes)
    for metric in metrics:
        yield from _quality_bars(metric, each)
    for metric in metrics[:1]:
        yield from _trade(metric, each)


def _label(row: digest.Row, several: bool) -> str:
    return f"{row.name}, {row.measurement.runtime}" if several else row.name


def _speed(labels: Sequence[str], rows: Sequence[digest.Row], series: Sequence[int], which: str) -> Iterator[tuple[str, str]]:
    """Latency, its distribution and memory at one batch size."""
    found = [(label, row.measurement, s) for label, row, s in zip(labels, rows, series, strict=True)]
    times = [
        charts.Bar(
            label, m.latency_ms.p50, f"{figures.milliseconds(m.latency_ms.p50, m.latency_ms.ci95)} ms", s, m.latency_ms.ci95
        )
        for label, m, s in found
    ]
    yield f"Latency, median{which}", charts.bars(f"Latency{which}", times)
    sampled = [
        charts.Distribution(label, sorted(m.latency_ms.samples) or m.latency_ms.quantiles, m.latency_ms.p50, s)
        for label, m, s in found
        if max(len(m.latency_ms.samples), len(m.latency_ms.quantiles)) > 1
    ]
    if sampled:
        yield f"Latency of single runs{which}", charts.distributions(f"Latency of single runs{which}", "ms", sampled)
    peaks = [
        charts.Bar(label, m.peak_memory_bytes, figures.size(m.peak_memory_bytes), s)
        for label, m, s in found
        if m.peak_memory_bytes is not None
    ]
    if peaks:
        yield f"Peak memory{which}", charts.bars(f"Peak memory{which}", peaks)


def _quality_bars(metric: str, each: Sequence[tuple[str, digest.Row, int]]) -> Iterator[tuple[str, str]]:
    found = [(name, series, row.measurement.quality.get(metric)) for name, row, series in each]
    bars = [
        charts.Bar(name, max(q.value, 0), figures.quality_with_interval(metric, q.value, q.ci95), series, q.ci95)
        for name, series, q in found
        if q is not None and q.value is not None
    ]
    if bars:
        yield metric.capitalize(), charts.bars(metric.capitalize(), bars)


def _trade(metric: str, each: Sequence[tuple[str, digest.Row, int]]) -> Iterator[tuple[str, str]]:
    """Quality, latency and size in one picture."""
    points = []
    for label, row, series in each:
        q = row.measurement.quality.get(metric)
        if q is not None and q.value is not None:
            text = figures.quality(metric, q.value)
            points.append(charts.Point(label, row.measurement.latency_ms.p50, q.value, text, q.ci95, row.bytes or 0, series))
    if len(points) > 1:
        name = metric.capitalize()
        yield f"{name} against latency; area is size", charts.scatter(name, metric, points, lambda y: figures.quality(metric, y))


def _pass(record: PassRecord) -> Iterator[str]:
    yield f"<h2>{_text(record.name)}</h2>"
    if record.options:
        yield f'<p class="muted">{_text(sheets.pass_options(record))}</p>'
    if record.speedup is not None:
        yield f"<p>{_text(figures.measured_speed(record.speedup).capitalize())}</p>"
    changed = [layer for layer in record.layers if layer.skipped is None]
    yield _charts(_profiles(changed))
    yield _table(sheets.forms(record)) if changed else ""
    reasons = digest.skip_reasons(record)
    if reasons:
        lines = "".join(f"<li>{figures.plural(len(names), 'layer')}: {_text(reason)}</li>" for reason, names in reasons)
        yield f"<h3>Left alone</h3><ul>{lines}</ul>"
    shown = record.layers[:MOST]
    summary = (
        f"All {len(shown)} layers" if len(shown) == len(record.layers) else f"The first {MOST} of {len(record.layers)} layers"
    )
    yield _folded(summary, _layers(shown), len(record.layers)) if shown else ""


def _profiles(changed: Sequence[LayerRecord]) -> Iterator[tuple[str, str]]:
    if len(changed) < 2:
        return
    errors = [layer.error for layer in changed if layer.error]
    if errors:
        worst = max(errors)
        note = (
            f"largest {figures.significant(worst, 2)}, logarithmic"
            if worst > 30 * min(errors)
            else f"largest {figures.significant(worst, 2)}"
        )
        values = [layer.error for layer in changed]
        yield "Error of each layer's output", charts.profile("Error by layer", values, note, log=worst > 30 * min(errors))
    before = [float(layer.bytes_before) for layer in changed]
    after = [float(layer.bytes_after) for layer in changed]
    note = f"{figures.size(int(sum(before)))} → {figures.size(int(sum(after)))}"
    yield "Bytes of each layer, before and after", charts.profile("Bytes by layer", after, note, behind=before)


def _layers(layers: Sequence[LayerRecord]) -> str:
    largest = max((layer.bytes_before for layer in layers), default=0) or 1
    worst = max((layer.error for layer in layers if layer.error is not None), default=0) or 1
    body = "".join(_layer(layer, largest, worst) for layer in layers)
    head = '<th>Layer</th><th>Kind</th><th>Shape</th><th>Form</th><th class="r">Bytes</th><th class="r">Error</th>'
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _layer(layer: LayerRecord, largest: int, worst: float) -> str:
    names = f'<td>{_text(layer.name)}</td><td>{_text(layer.kind)}</td><td class="nowrap">{figures.shape(layer.shape)}</td>'
    if layer.skipped is not None:
        kept = figures.size(layer.bytes_before)
        why = f"<td>left: {_text(layer.skipped)}</td>"
        return f'<tr class="muted">{names}{why}<td class="r">{kept}</td><td class="r">{figures.NONE}</td></tr>'
    before, after = (100 * count / largest for count in (layer.bytes_before, layer.bytes_after))
    meter = (
        f'<span class="meter"><i class="was" style="width:{before:.1f}%"></i><i style="width:{min(after, 100):.1f}%"></i></span>'
    )
    size = f"{figures.size(layer.bytes_before)} → {figures.size(layer.bytes_after)}{meter}"
    error = figures.significant(layer.error, 2)
    if layer.error is not None:
        error += f'<span class="meter"><i style="width:{100 * layer.error / worst:.1f}%"></i></span>'
    return f'<tr>{names}<td>{_text(layer.form)}</td><td class="r">{size}</td><td class="r">{error}</td></tr>'
