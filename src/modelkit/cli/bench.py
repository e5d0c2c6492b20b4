"""`modelkit bench`: latency, throughput, memory, size and quality of one or several models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelkit.core.errors import ModelkitError

from .data_argument import Reading
from .gates import measurement_record
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


def command(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Model files or reports; the first is what others are held against.")
    ],
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime", metavar="auto|torch|compile|onnxruntime", help="What runs the models; several as a,b or repeated."
        ),
    ] = None,
    device: Device = "cpu",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads; unset: one per usable core.")] = None,
    batch_size: Annotated[str | None, typer.Option("--batch-size", metavar="N[,N]", help="Batch sizes, e.g. 1,8.")] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="Data to measure quality on.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="accuracy, top5, agreement, …; repeatable.")] = None,
    max_time: Annotated[float, typer.Option("--max-time", min=0.05, help="Seconds for each model and batch size.")] = 3.0,
    samples: Annotated[bool, typer.Option("--samples", help="Keep every raw sample in the report.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time by layer, and a trace for chrome://tracing as MODEL-RUNTIME.trace.json.")
    ] = False,
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
    """Measure latency, throughput, memory, size and quality."""
    from modelkit.bench.measure import measure
    from modelkit.bench.measurement import Subject
    from modelkit.describe import describe

    with Session("bench", json=json, quiet=quiet, verbose=verbose, reports=report, device=device) as session:
        sizes = _sizes(batch_size)
        if metric and data is None:
            raise ModelkitError(f"--metric {metric[0]} needs data.", "Give it with --data DATA.")
        opened = open_models(models, session.stage, data, trust=trust, arch=arch, bindings=parse_bindings(input))
        subjects = [Subject(str(model.path), model) for model in opened]
        session.report["inputs"] = [describe(subject.model) for subject in subjects]
        reading = Reading(num_samples, seed, scale, mean, std, label, tokenizer)
        dataset = None if data is None else reading.open(data, subjects[0].model)
        with session.stage("measuring", 100) as stage:
            measured = measure(
                subjects,
                _runtimes(runtime),
                device,
                threads,
                sizes,
                max_time,
                dataset,
                metric or (),
                seed,
                progress=lambda what, part: stage.show(what, part),
                profiles=Path.cwd() if profile else None,
            )
        session.report["measurements"] = [measurement_record(measurement, samples) for measurement in measured]


def _runtimes(words: list[str] | None) -> list[str]:
    return [name.strip() for word in words or ["auto"] for name in word.split(",") if name.strip()] or ["auto"]


def _sizes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ModelkitError(f"--batch-size {text!r} is not a list of numbers.", "Write it as --batch-size 1,8.") from None
