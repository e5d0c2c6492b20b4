"""A report on the terminal, for people: short tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import digest, figures
from .figures import printable
from .records import AvailablePass, Candidate, Environment, Model, PassRecord, Report

LONG = 16  # layer lists longer than this are summarised by form unless verbose
VERDICTS = {"better": "green", "worse": "red", "same": "", "inconclusive": "yellow"}


def print_report(report: Report, verbose: bool = False, console: Console | None = None) -> None:
    """Print what the report holds, most important last, where the eye is when a command ends. Standard output by default."""
    out = console or Console(highlight=False)
    if report.command == "doctor":
        _environment(out, report.environment)
    for model in report.inputs if report.command == "inspect" else []:
        _model(out, model)
    for record in report.passes:
        _pass(out, record, verbose)
    _measurements(out, report, verbose)
    _profiles(out, report, verbose)
    for candidate in report.comparison.candidates if report.comparison else []:
        _comparison(out, report, candidate)
    _available(out, report.available or [])
    _advice(out, report.advice or [])
    _output(out, report)
    _gates(out, report)


def _table(title: str, *columns: str, right: Iterable[int] = ()) -> Table:
    """A table with the first column folding (long layer names) and the columns of numbers flush right."""
    table = Table(
        title=Text(printable(title), "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, name in enumerate(columns):
        table.add_column(Text(printable(name)), justify="right" if i in right else "left", overflow="fold", no_wrap=i in right)
    return table


def _show(out: Console, table: Table) -> None:
    out.print(table, "")  # and an empty line


def _row(table: Table, *cells: str | Text) -> None:
    table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells))


def _model(out: Console, model: Model) -> None:
    macs = figures.amount(model.macs)
    facts = f"{model.format} · {figures.size(model.bytes)} · {figures.amount(model.parameters)} parameters · {macs} MACs"
    out.print(Text(printable(model.path), "bold"), Text(facts), sep="\n")
    for made in model.history:
        out.print(Text(f"made by {printable(made.get('pass', made))}"))
    sparse = any(layer.sparsity for layer in model.layers)
    columns = ["Layer", "Kind", "Shape", "Params", "MACs", "Bytes", *["Zeros"] * sparse, "Form"]
    table = _table("", *columns, right=range(3, len(columns) - 1))
    for layer in model.layers:
        numbers = [figures.amount(layer.parameters), figures.amount(layer.macs), figures.size(layer.bytes)]
        if sparse:
            numbers.append(figures.NONE if layer.sparsity is None else f"{100 * layer.sparsity:.0f} %")
        _row(table, layer.name, layer.kind, figures.shape(layer.shape), *numbers, layer.form)
    if model.layers:
        _show(out, table)


def _pass(out: Console, record: PassRecord, verbose: bool) -> None:
    changed = sum(layer.skipped is None for layer in record.layers)
    title = f"{printable(record.name)}: {changed} of {figures.plural(len(record.layers), 'layer')} changed"
    title = ", ".join(filter(None, (title, figures.measured_speed(record.speedup))))
    if verbose or len(record.layers) <= LONG:
        table = _table(title, "Layer", "Shape", "Form", "Before", "After", "Error", right=(3, 4, 5))
        for layer in record.layers:
            form = Text(printable(layer.form)) if layer.skipped is None else Text("left", "dim")
            sizes = figures.size(layer.bytes_before), figures.size(layer.bytes_after)
            _row(table, layer.name, figures.shape(layer.shape), form, *sizes, figures.significant(layer.error, 2))
        _show(out, table)
        _reasons(out, record)
        return
    table = _table(title, "Form", "Layers", "Before", "After", "Largest error", right=(1, 2, 3))
    for group in digest.by_form(record):
        worst = (
            figures.NONE
            if group.worst is None
            else f"{figures.significant(group.worst.error, 2)} {figures.shorten(group.worst.name, 24)}"
        )
        _row(table, group.form, str(group.layers), figures.size(group.bytes_before), figures.size(group.bytes_after), worst)
    _show(out, table)
    _reasons(out, record)
    out.print(Text("--verbose lists every layer.", "dim"))


def _reasons(out: Console, record: PassRecord) -> None:
    for reason, names in digest.skip_reasons(record):
        shown = ", ".join(figures.shorten(name, 24) for name in names[:2]) + (", …" if len(names) > 2 else "")
        out.print(Text(f"{figures.plural(len(names), 'layer')} left ({printable(shown)}): {printable(reason)}", "dim"))


def _measurements(out: Console, report: Report, verbose: bool) -> None:
    rows = digest.rows(report)
    if not rows:
        return
    settings = list(dict.fromkeys(digest.setting(r.measurement) for r in rows))
    batches = list(dict.fromkeys(r.measurement.batch_size for r in rows))
    metrics = digest.metric_names(report)
    beside = metrics if len(metrics) == 1 else []
    common = [settings[0]] * (len(settings) == 1) + [f"batch {batches[0]}"] * (len(batches) == 1)
    varying = ["Runtime"] * (len(settings) > 1) + ["Batch"] * (len(batches) > 1)
    columns = ["Model", *varying, "p50 ms", *["p99"] * verbose, "Speed-up", "Size", "Memory", *beside]
    right = range(1 + (len(settings) > 1), len(columns))
    table = _table(f"Measured: {', '.join(common)}" if common else "Measured", *columns, right=right)
    for row in rows:
        m = row.measurement
        cells: list[str | Text] = [row.name]
        cells += [digest.setting(m)] if len(settings) > 1 else []
        cells += [str(m.batch_size)] if len(batches) > 1 else []
        cells += [figures.milliseconds(m.latency_ms.p50, m.latency_ms.ci95)]
        cells += [figures.significant(m.latency_ms.p99)] if verbose else []
        cells += [_speedup(row)]
        cells += [figures.size(row.bytes), figures.size(m.peak_memory_bytes)]
        cells += [_quality(row, metric) for metric in beside]
        _row(table, *cells)
    _show(out, table)
    if any(r.speedup is not None and not r.speedup_is_clear for r in rows):
        out.print(Text("≈ the difference is within the noise of the two measurements.", "dim"))
    if len(metrics) > 1:
        _qualities(out, rows, metrics)


def _speedup(row: digest.Row) -> Text:
    if row.speedup is None:
        return Text(figures.NONE)
    if not row.speedup_is_clear:
        return Text(f"≈ {figures.ratio(row.speedup)}", "dim")
    return Text(figures.ratio(row.speedup), "green" if row.speedup > 1 else "red")


def _quality(row: digest.Row, metric: str) -> str:
    found = row.measurement.quality.get(metric)
    return figures.NONE if found is None else figures.quality_with_interval(metric, found.value, found.ci95)


def _qualities(out: Console, rows: Sequence[digest.Row], metrics: Sequence[str]) -> None:
    table = _table("Quality", "Model", *metrics, right=range(1, len(metrics) + 1))
    for name, row in {row.name: row for row in rows if row.measurement.quality}.items():
        _row(table, name, *(_quality(row, metric) for metric in metrics))
    _show(out, table)


def _comparison(out: Console, report: Report, candidate: Candidate) -> None:
    names = digest.short_names(report)
    baseline = report.comparison.baseline if report.comparison else ""
    title = f"{names[candidate.model]} against {names[baseline]}"
    table = _table(title, "Metric", "Baseline", "Candidate", "Ratio", "95 % interval", "Verdict", "Sees", right=(1, 2, 3, 4, 6))
    unsure = False
    for m in candidate.metrics:
        interval = figures.NONE if m.ci95 is None else "–".join(f"{figures.close_ratio(end)[:-1]}" for end in m.ci95)
        verdict = Text(m.verdict, VERDICTS[m.verdict])
        unsure = unsure or m.verdict == "inconclusive"
        seen = figures.NONE if not m.detectable else f"{figures.significant(100 * m.detectable, 2)} %"
        _row(
            table,
            m.name.replace("latency_ms.", "latency ").removesuffix("_per_s").removesuffix("_bytes"),
            figures.metric(m.name, m.baseline),
            figures.metric(m.name, m.candidate),
            figures.close_ratio(m.ratio),
            interval,
            verdict,
            seen,
        )
    _show(out, table)
    if unsure:
        out.print(Text("Sees: the smallest difference that would have been seen; a longer --max-time sees smaller ones.", "dim"))
    lost = [
        found
        for found in candidate.classes
        if found.p_value is not None and found.p_value < 0.05 and digest.class_change(found) < 0
    ]
    for found in sorted(lost, key=digest.class_change)[:5]:
        change = digest.change_of("accuracy", digest.class_change(found))
        out.print(Text(f"class {printable(found.label)} lost {change} of {found.n}", "red"))
    if candidate.flips:
        out.print(Text(f"{figures.plural(len(candidate.flips), 'answer')} flipped: --json and --report list them.", "dim"))


def _profiles(out: Console, report: Report, verbose: bool) -> None:
    for m in report.measurements:
        if m.profile is None:
            continue
        layers = sorted(m.profile.layers, key=lambda layer: -layer.ms)
        table = _table(
            f"Time by layer: {m.runtime}, {digest.short_names(report)[m.model]}", "Layer", "Operator", "ms", "Share", right=(2, 3)
        )
        for layer in layers if verbose else layers[:LONG]:
            _row(table, layer.name, layer.op, figures.significant(layer.ms), f"{100 * layer.share:.1f} %")
        _show(out, table)
        out.print(Text(f"→ {printable(m.profile.trace)} (open it in ui.perfetto.dev)", "dim"), soft_wrap=True)


def _available(out: Console, available: Sequence[AvailablePass]) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for found in available:
        grid.add_row(Text(printable(found.name), "bold"), Text(printable(found.summary)))
    if available:
        out.print(grid)
    for found in available[:1] if len(available) == 1 else []:
        table = _table("", "Option", "Type", "Default", "Bounds", "Meaning")
        for option in found.options:
            bounds = figures.NONE if option.bounds is None else " – ".join(map(str, option.bounds))
            _row(table, option.name, option.type, str(option.default), bounds, option.help)
        if found.options:
            _show(out, table)


def _advice(out: Console, advice: Sequence[str]) -> None:
    grid = Table.grid(padding=(0, 1, 0, 0))
    for line in advice:
        grid.add_row(Text("•"), Text(printable(line)))
    if advice:
        out.print(grid)


def _environment(out: Console, environment: Environment) -> None:
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    facts = {
        "CPU": f"{environment.cpu}, {figures.plural(environment.cores, 'core')}",
        "Instructions": ", ".join(environment.isa) or figures.NONE,
        "Memory": figures.size(environment.memory_bytes),
        "GPU": environment.gpu or "none",
        "System": f"{environment.platform}, Python {environment.python}",
        "Packages": packages,
    }
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in facts.items():
        grid.add_row(Text(name, "dim"), Text(printable(value), overflow="fold"))
    out.print(grid)


def _output(out: Console, report: Report) -> None:
    if report.output is None:
        return
    line = Text.assemble("→ ", (printable(report.output.path), "bold"), f"  {figures.size(report.output.bytes)}")
    if report.inputs and report.inputs[0].bytes:
        share = report.output.bytes / report.inputs[0].bytes
        line.append(f", {figures.ratio(share)} of {figures.size(report.inputs[0].bytes)}", "red" if share > 1 else "")
    out.print(line, soft_wrap=True)


def _gates(out: Console, report: Report) -> None:
    marks = {True: ("✓ passed", "green"), False: ("✗ failed", "red"), None: ("? not decided", "yellow")}
    for gate in report.gates:
        out.print(
            Text.assemble(
                marks[gate.passed], "  ", printable(digest.gate_name(report, gate)), f"  (value {figures.exact(gate.value)})"
            )
        )
