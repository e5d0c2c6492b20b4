"""A report as Markdown, for a pull request or a model card."""

from __future__ import annotations

from collections.abc import Iterator

from . import digest, figures, sheets
from .records import PassRecord, Report
from .sheets import Sheet

MOST_FLIPS = 100
LONG = 60  # layer lists longer than this are folded away


def to_markdown(report: Report) -> str:
    return "\n\n".join(_parts(report)) + "\n"


def _parts(report: Report) -> Iterator[str]:
    yield f"# modelkit {_escape(report.command)}"
    about = digest.headline_subject(report)
    if about:
        yield _escape(about)
    tiles = digest.headline(report)
    if tiles:
        yield "\n".join(f"- **{_escape(tile.label)}** {_escape(tile.value)} ({_escape(tile.detail)})" for tile in tiles)
    if report.warnings:
        yield "\n".join(f"> **Warning:** {_escape(warning)}" for warning in report.warnings)
    if report.gates:
        yield _table(sheets.gates(report))
    if report.measurements:
        yield _table(sheets.measurements(report))
        setting = _escape(sheets.common_setting(report))
        start = f"{setting}. " if setting else ""
        yield f"{start}Speed-up and size are against the first model; ≈ marks differences within the noise."
    if report.comparison is not None:
        for candidate in report.comparison.candidates:
            yield _table(sheets.comparison(report, report.comparison, candidate))
            if candidate.classes:
                yield _table(sheets.classes(candidate))
            if candidate.flips:
                flips = _table(sheets.flips(candidate, MOST_FLIPS))
                summary = f"{figures.plural(len(candidate.flips), 'answer')} flipped"
                yield f"<details><summary>{summary}</summary>\n\n{flips}\n\n</details>"
    for m in report.measurements:
        if m.profile is not None:
            yield _table(sheets.profile(m.profile, f"Time by layer: {m.model}, {digest.setting(m)}"))
    for record in report.passes:
        yield from _pass(record)
    if report.inputs:
        yield _table(sheets.models(report))
    for model in report.inputs if report.command == "inspect" else []:
        yield _table(sheets.model_layers(model))
    for found in report.available or []:
        yield _table(sheets.options(found))
    if report.advice:
        yield "\n".join(f"- {_escape(line)}" for line in report.advice)
    yield _table(sheets.environment(report.environment))
    yield f"modelkit {_escape(report.modelkit)}, {figures.significant(report.seconds)} s"


def _pass(record: PassRecord) -> Iterator[str]:
    yield f"## {_escape(record.name)}"
    if record.options:
        yield f"Options: {_escape(sheets.pass_options(record))}"
    if record.speedup is not None:
        yield figures.measured_speed(record.speedup).capitalize()
    yield _table(sheets.forms(record))
    reasons = digest.skip_reasons(record)
    if reasons:
        yield "\n".join(f"- {figures.plural(len(names), 'layer')} left: {_escape(reason)}" for reason, names in reasons)
    layers = _table(sheets.pass_layers(record))
    yield layers if len(record.layers) <= LONG else f"<details><summary>Every layer</summary>\n\n{layers}\n\n</details>"


def _table(sheet: Sheet) -> str:
    head = f"| {' | '.join(map(_escape, sheet.columns))} |"
    rule = f"|{'|'.join('--:' if i in sheet.right else '---' for i in range(len(sheet.columns)))}|"
    body = [f"| {' | '.join(map(_escape, row))} |" for row in sheet.rows]
    return "\n".join([f"### {_escape(sheet.title)}", "", head, rule, *body])


def _escape(text: str) -> str:
    """Names are shown as they are: nothing in them is markup or HTML, and none ends its table cell."""
    out = figures.printable(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "|*_`[]#~":
        out = out.replace(mark, f"\\{mark}")
    return out
