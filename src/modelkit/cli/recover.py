"""`modelkit recover`: read the options, hand over to `modelkit.recover`, show what came of it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelkit.core.errors import ModelkitError

from .data_argument import Reading
from .model_argument import model_path
from .options import (
    Arch,
    Device,
    DryRun,
    Force,
    InputSpec,
    Json,
    Label,
    Mean,
    Out,
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
    from collections.abc import Iterator, Mapping

    from modelkit.core.model import Model
    from modelkit.recover import Distillation, Recovery

_TRAINING = "Training"
_LOSSES = ("auto", "kl", "mse", "both")
_OPTIMIZERS = ("adamw", "sgd")
_PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def command(
    model: Annotated[
        str,
        typer.Argument(metavar="COMPRESSED", help="The pruned, factorised or quantised torch model, or a report that names it."),
    ],
    teacher: Annotated[Path, typer.Option("--teacher", metavar="ORIGINAL", help="The model it was made from, in any format.")],
    calib: Annotated[str, typer.Option("--calib", metavar="DATA", help="What to learn on; labels are not needed.")],
    out: Out = None,
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", min=1, help="Passes over the data.")] = 10,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, rich_help_panel=_TRAINING, help="Samples a step.")
    ] = 32,
    lr: Annotated[float | None, typer.Option("--lr", rich_help_panel=_TRAINING, help="Highest learning rate.")] = None,
    optimizer: Annotated[
        str, typer.Option("--optimizer", metavar="adamw|sgd", rich_help_panel=_TRAINING, help="The optimiser.")
    ] = "adamw",
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", min=0.0, rich_help_panel=_TRAINING, help="Weight decay.")
    ] = 0.0,
    loss: Annotated[
        str,
        typer.Option(
            "--loss", metavar="auto|kl|mse|both", rich_help_panel=_TRAINING, help="Between the outputs; auto: by what they are."
        ),
    ] = "auto",
    temperature: Annotated[float, typer.Option("--temperature", rich_help_panel=_TRAINING, help="Of the KL divergence.")] = 2.0,
    features: Annotated[
        float,
        typer.Option(
            "--features", min=0.0, rich_help_panel=_TRAINING, help="Weight of the loss on layers that both models have."
        ),
    ] = 1.0,
    label_weight: Annotated[
        float,
        typer.Option("--label-weight", min=0.0, max=1.0, rich_help_panel=_TRAINING, help="Weight of the data's own labels."),
    ] = 0.0,
    held_out: Annotated[
        float,
        typer.Option("--held-out", min=0.01, max=0.9, rich_help_panel=_TRAINING, help="Share of the data that only judges."),
    ] = 0.1,
    precision: Annotated[
        str, typer.Option("--precision", metavar="auto|float32|bfloat16|float16", rich_help_panel=_TRAINING, help="Of products.")
    ] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint that an interrupted run left beside OUT.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="DIR", help="Write a TensorBoard log there.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="Evaluation data: quality before and after.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Of --data; by its labels unless given.")] = None,
    device: Device = "cpu",
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
    force: Force = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    report: ReportFile = None,
) -> None:
    """Distil the original into the compressed model."""
    _among("--loss", loss, _LOSSES)
    _among("--optimizer", optimizer, _OPTIMIZERS)
    _among("--precision", precision, _PRECISIONS)
    for flag, value in (("--lr", lr), ("--temperature", temperature)):
        if value is not None and not 0 < value < float("inf"):
            raise ModelkitError(f"{flag} {value:g} is not above 0.", f"Give {flag} a number above 0.")
    from modelkit.describe import describe, total_bytes
    from modelkit.models.opening import open_model
    from modelkit.publish import check_output, output_path
    from modelkit.recover import Distillation, check_student, deliver, recover

    with Session("recover", json=json, quiet=quiet, verbose=verbose, reports=report, device=device) as session:
        path = model_path(model)
        with session.stage(f"opening {path.name}"):
            student = check_student(open_model(path, trust=trust, arch=arch, bindings=parse_bindings(input)))
        with session.stage(f"opening {teacher.name}"):
            original = open_model(teacher, trust=trust, arch=arch, bindings=parse_bindings(input))
        _check_device(device)
        target = output_path(student.path, "torch", "recovered", out)
        checkpoint = target.with_name(f"{target.name}.checkpoint")
        if checkpoint.exists() and not resume:
            if not force:
                raise ModelkitError(
                    f"An interrupted run left its checkpoint {checkpoint}.",
                    "Go on from it with --resume, or start anew with --force.",
                )
            checkpoint.unlink()
        check_output(target, [*student.files(), *original.files()], 6 * total_bytes(student.files()), force or resume)
        reading = Reading(num_samples, seed, scale, mean, std, label, tokenizer)
        samples = reading.open(calib, student)
        evaluation = None if data is None else reading.open(data, student, all_samples=True)
        if evaluation is not None:
            from modelkit.bench.quality import choose_metrics

            choose_metrics(metric or [], evaluation, 3)
        wanted = Distillation(
            epochs,
            batch_size,
            lr,
            optimizer,
            weight_decay,
            loss,
            temperature,
            features,
            label_weight,
            held_out,
            precision,
            device,
            seed,
        )
        session.report["inputs"] = [describe(student), describe(original)]
        with _log(tensorboard) as log:
            if dry_run:
                session.note(f"dry run: {target} was not written")
                return
            steps = epochs * -(-(samples.n - max(round(held_out * samples.n), 1)) // batch_size)
            with session.stage("recovering", steps) as stage:
                watch = _Watch(stage, log, epochs)
                try:
                    recovery = recover(student, original, samples, wanted, checkpoint=checkpoint, watch=watch)
                except KeyboardInterrupt:
                    if checkpoint.exists():
                        session.note(f"{checkpoint} holds what was learnt: go on with --resume")
                    raise
        with session.stage("writing and checking"):
            published = deliver(recovery, samples, target)
        checkpoint.unlink(missing_ok=True)
        session.report["output"] = describe(published, target)
        session.report["passes"] = [_record(student, published, recovery, wanted)]
        session.report["recovery"] = recovery.summary()
        history = recovery.history
        session.note(f"distillation loss on held-out samples: {history.before:.4g} before, {history.after:.4g} after")
        if evaluation is not None:
            from modelkit.bench.measure import measure
            from modelkit.bench.measurement import Subject

            from .gates import measurement_record

            subjects = [Subject(str(m.path), m) for m in (original, student, published)]
            with session.stage("evaluating"):
                measured = measure(subjects, device=device, max_time=1.0, dataset=evaluation, metrics=metric or [], seed=seed)
            session.report["measurements"] = [measurement_record(measurement) for measurement in measured]


def _among(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ModelkitError(f"{flag} {value} is unknown.", f"Choose one of: {', '.join(known)}.")


def _check_device(device: str) -> None:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelkitError("This machine has no CUDA device that torch can use.", "Use --device cpu.")


class _Watch:
    """Progress for people, and the log for TensorBoard."""

    def __init__(self, stage: Any, log: Any, epochs: int) -> None:
        self._stage, self._log, self._epochs = stage, log, epochs
        self._epoch, self._held_out = 0, ""

    def __call__(self, kind: str, values: Mapping[str, float], number: int) -> None:
        if kind == "epoch":
            self._epoch, self._held_out = number, f", held out {values['held_out']:.4g}"
        else:
            total = self._stage.total or 1
            what = f"epoch {min(self._epoch + 1, self._epochs)}/{self._epochs}: loss {values['loss']:.4g}{self._held_out}"
            self._stage.show(what, number / total)
        if self._log is not None:
            for name, value in values.items():
                self._log.add_scalar(f"{kind}/{name}", value, number)


@contextmanager
def _log(folder: Path | None) -> Iterator[Any]:
    """A writer of TensorBoard logs, or None. Raises ModelkitError where tensorboard is not installed."""
    if folder is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ModelkitError(
            "--tensorboard needs the package tensorboard, which is not installed.", "pip install 'modelkit[tensorboard]'"
        ) from error
    writer = SummaryWriter(str(folder))
    try:
        yield writer
    finally:
        writer.close()


def _record(before: Model, after: Model, recovery: Recovery, wanted: Distillation) -> dict[str, Any]:
    """The pass record: every layer, changed or left with the reason."""
    from dataclasses import asdict

    layers = []
    for layer in before.graph.layers():
        other = after.graph.by_name.get(layer.name)
        weight = layer.parameters.get("weight")
        layers.append(
            {
                "name": layer.name,
                "kind": layer.kind,
                "shape": list(weight.shape) if weight else [],
                "form": weight.form if weight else "dense",
                "bytes_before": sum(p.bytes for p in layer.parameters.values()),
                "bytes_after": sum(p.bytes for p in other.parameters.values()) if other else 0,
                "error": None,
                "skipped": (layer.skip or "no constant weight") if weight is None else None,
            }
        )
    return {"pass": "recover", "options": asdict(wanted), "seconds": round(recovery.seconds, 3), "layers": layers}
