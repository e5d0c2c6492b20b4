"""`modelkit compare`: is a candidate faster, smaller and as good as the baseline? Of models, or of saved reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelkit.core.errors import ModelkitError

from .data_argument import Reading
from .gates import exit_code, measurement_record
from .model_argument import open_models
from .options import (
    Arch,
    Device,
    InputSpec,
    Json,
    Label,
    Mean,
    Quiet,
    ReportFile,
    Samples,
    Scale,
    Seed,
    Std,
    Tokenizer,
    Trust,
    Verbose,
    parse_bindings,
)
from .session import Session

if TYPE_CHECKING:
    from modelkit.report import Report
    from modelkit.report.gates import Limit

_GATES = "Gates (also in [tool.modelkit.gates] of a pyproject.toml)"


def command(
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help="A model file or a saved report.")],
    candidates: Annotated[list[str], typer.Argument(metavar="CANDIDATE...", help="What is held against it.")],
    runtime: Annotated[
        str, typer.Option("--runtime", metavar="auto|torch|compile|onnxruntime", help="What runs the models.")
    ] = "auto",
    device: Device = "cpu",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads; unset: one per usable core.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, metavar="N", help="Samples of a run.")] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="Data to compare quality on.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="accuracy, top5, agreement, …; repeatable.")] = None,
    max_time: Annotated[
        float, typer.Option("--max-time", min=0.1, help="Seconds of measuring at most; decided earlier, it stops.")
    ] = 30.0,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, max=1.0, help="Differences that count as the same, as a share.")
    ] = 0.01,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            "--max-drop", metavar="METRIC=DROP", help="Fail if quality falls by more; repeatable.", rich_help_panel=_GATES
        ),
    ] = None,
    min_speedup: Annotated[
        str | None, typer.Option("--min-speedup", metavar="RATIO", help="Fail unless this much faster.", rich_help_panel=_GATES)
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option("--max-bytes", metavar="5MB|50%", help="Fail if the files are larger.", rich_help_panel=_GATES)
    ] = None,
    max_macs: Annotated[
        str | None, typer.Option("--max-macs", metavar="300M|50%", help="Fail if it computes more.", rich_help_panel=_GATES)
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="500MB|50%", help="Fail if it needs more memory.", rich_help_panel=_GATES),
    ] = None,
    samples: Annotated[bool, typer.Option("--samples", help="Keep every raw sample in the report.")] = False,
    trust: Trust = False,
    arch: Arch = None,
    input: InputSpec = None,
    num_samples: Samples = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    label: Label = None,
    tokenizer: Tokenizer = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    report: ReportFile = None,
) -> None:
    """Say whether a candidate is better, worse or the same, in latency, size, memory and quality.

    BASELINE and CANDIDATE are models, which are measured, or saved reports, whose figures are compared.
    Exit codes: 0 done, 1 a gate failed, 3 a gate could not be decided in the time.
    """
    from modelkit.report.gates import judge, limits_from

    with Session("compare", json=json, quiet=quiet, verbose=verbose, reports=report, device=device) as session:
        flags = {
            "max-drop": max_drop,
            "min-speedup": min_speedup,
            "max-bytes": max_bytes,
            "max-macs": max_macs,
            "max-memory": max_memory,
        }
        limits = limits_from(flags, Path.cwd())
        saved = _saved_reports([baseline, *candidates])
        if saved is not None:
            _compare_reports(session, [baseline, *candidates], saved, tolerance)
        else:
            reading = Reading(num_samples, seed, scale, mean, std, label, tokenizer)
            opening = {"trust": trust, "arch": arch, "bindings": parse_bindings(input)}
            measuring = {
                "runtime": runtime,
                "device": device,
                "threads": threads,
                "batch_size": batch_size,
                "max_time": max_time,
                "tolerance": tolerance,
                "seed": seed,
            }
            _compare_models(session, [baseline, *candidates], opening, reading, data, metric or [], limits, measuring, samples)
        for candidate in session.report["comparison"]["candidates"]:
            session.report["gates"] += judge(limits, candidate["metrics"], candidate["model"])
        session.exit_code = exit_code(session.report["gates"])


def _compare_models(
    session: Session,
    arguments: Sequence[str],
    opening: dict[str, Any],
    reading: Reading,
    data: str | None,
    metrics: list[str],
    limits: Sequence[Limit],
    measuring: dict[str, Any],
    samples: bool,
) -> None:
    from modelkit.bench.compare import compare
    from modelkit.bench.measurement import Subject
    from modelkit.describe import describe

    for limit in limits:
        if limit.is_quality and data is None:
            raise ModelkitError(f"The gate {limit.text} needs evaluation data.", "Give labelled data with --data DATA.")
        if limit.is_quality and limit.metric not in metrics:
            metrics = [*metrics, limit.metric]
    if metrics and data is None:
        raise ModelkitError(f"--metric {metrics[0]} needs data.", "Give it with --data DATA.")
    subjects = [Subject(str(opened.path), opened) for opened in open_models(arguments, session.stage, data, **opening)]
    session.report["inputs"] = [describe(subject.model) for subject in subjects]
    dataset = None if data is None else reading.open(data, subjects[0].model)
    with session.stage("measuring", 100) as stage:
        measured, compared = compare(
            subjects,
            session.report["inputs"],
            limits=[limit.value for limit in limits if limit.kind == "min-speedup"],
            dataset=dataset,
            metrics=metrics,
            progress=lambda what, part: stage.show(what, part),
            **measuring,
        )
    session.report["measurements"] = [measurement_record(measurement, samples) for measurement in measured]
    session.report["comparison"] = {"baseline": subjects[0].name, "candidates": [asdict(candidate) for candidate in compared]}


def _saved_reports(arguments: Sequence[str]) -> list[Report] | None:
    """The reports, when all arguments are ones that hold measurements; else None, and models are meant."""
    if any(argument == "-" or Path(argument).suffix.lower() != ".json" or not Path(argument).is_file() for argument in arguments):
        return None
    from modelkit.report import read_report

    found = [read_report(Path(argument).read_bytes(), argument) for argument in arguments]
    return found if all(report.measurements for report in found) else None


def _compare_reports(session: Session, origins: Sequence[str], reports: Sequence[Report], tolerance: float) -> None:
    from modelkit.bench.saved import compare_saved

    given = (model for report in reports for model in [*report.inputs, *filter(None, [report.output])])
    models = {(model.path, model.sha256): model for model in given}
    session.report["inputs"] = [model.model_dump(mode="json", by_alias=True) for model in models.values()]
    session.report["measurements"] = [m.model_dump(mode="json", by_alias=True) for report in reports for m in report.measurements]
    baseline, candidates = compare_saved(origins, reports, tolerance)
    session.report["comparison"] = {"baseline": baseline, "candidates": candidates}
