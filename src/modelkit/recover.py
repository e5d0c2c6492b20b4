"""`recover`, as a function: the original teaches the compressed model, on labelled or unlabelled data."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .agreement import feeds_of
from .analysis.synthetic import fixed_batch
from .calibrate import calibration_batch
from .core.errors import AccuracyWarning, ModelkitError
from .core.forms import Array
from .core.graph import Graph
from .core.model import Model
from .describe import sha256
from .publish import family_of, into_family, outputs_of, publish

if TYPE_CHECKING:
    import torch

    from .data import Dataset
    from .distill.losses import Distance
    from .distill.teacher import Teacher
    from .distill.training import History, Schedule, Watch
    from .models.torch.model import TorchModel
    from .models.torch.trainable import Trainable


@dataclass(frozen=True)
class Distillation:
    """What was asked for.

    lr: None for 1e-3, or 1e-4 where the model has layer norms (transformers are trained with less), or for the highest fraction
    of that whose first steps do no harm. loss: "auto" chooses for each output (see `distill.losses`). features: weight of the
    relative error of layers that both models have. labels: weight of the cross-entropy with the data's labels, the rest being
    the teacher's. device: where it is trained.
    """

    epochs: int = 10
    batch_size: int = 32
    lr: float | None = None
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    loss: str = "auto"
    temperature: float = 2.0
    features: float = 1.0
    labels: float = 0.0
    held_out: float = 0.1
    precision: str = "auto"
    device: str = "cpu"
    seed: int = 0

    def schedule(self, graph: Graph) -> Schedule:
        from .distill.training import Schedule

        delicate = any(node.kind == "norm" and node.function in ("layer", "rms") for node in graph.nodes)
        lr = self.lr if self.lr is not None else 1e-4 if delicate else 1e-3
        if self.lr is None and self.optimizer == "sgd":
            lr *= 10
        return Schedule(
            self.epochs, self.batch_size, lr, self.lr is None, self.optimizer, self.weight_decay, held_out=self.held_out,
            precision=self.precision, seed=self.seed,
        )  # fmt: skip


@dataclass
class Recovery:
    """The recovered model and how the training went."""

    model: Model
    history: History
    seconds: float
    samples: int
    losses: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """As the report has it."""
        history = self.history
        return {
            "loss_before": history.before, "loss_after": history.after, "best_epoch": history.best,
            "epochs": len(history.held_out), "held_out": history.held_out, "training": history.training,
            "losses": dict(self.losses), "learning_rate": history.lr, "precision": history.precision,
            "resumed_at_step": history.resumed,
        }  # fmt: skip


def check_student(model: Model) -> TorchModel:
    """The model as one that can be trained. Raises ModelkitError."""
    if model.family != "torch":
        raise ModelkitError(
            f"{model.path} is an ONNX model, and recover trains torch models.",
            f"Convert it first: modelkit convert {model.path.name} -o {model.path.stem}.pt2; the result can be converted back.",
        )
    from .models.torch.model import TorchModel

    assert isinstance(model, TorchModel)
    return model


def recover(
    student: Model,
    teacher: Model,
    data: Dataset,
    wanted: Distillation | None = None,
    *,
    checkpoint: Path | None = None,
    watch: Watch = lambda kind, values, number: None,
) -> Recovery:
    """Train a copy of `student`, in the forms that its weights have, to give what `teacher` gives on `data`.

    A part of the data is held out; the weights kept are those with the lowest loss there, so the result is not worse than the
    start on it. checkpoint: where the state is saved every few seconds (half a minute at most), and found again. Raises
    ModelkitError for models that don't fit.
    """
    from .distill.checkpoint import Checkpoint
    from .distill.training import train

    started = time.perf_counter()
    wanted = wanted or Distillation()
    model = check_student(student)
    lesson = _lesson(model, teacher, data, wanted)
    module = lesson.module
    if not list(module.parameters()):
        raise ModelkitError(f"{model.path} has no weights that can be trained.", "See its layers with `modelkit inspect`.")
    schedule = wanted.schedule(model.graph)
    identity = {"student": _digest(model.path), "teacher": _digest(teacher.path), "samples": data.n, **asdict(wanted)}
    kept = Checkpoint(checkpoint, identity)
    history = train(module, lesson, data.n, schedule, wanted.device, kept, watch, fixed_batch(model.graph))
    result = model.trained(module)
    options = {**asdict(wanted), "lr": history.lr}
    result.provenance.history = [
        *model.provenance.history, {"pass": "recover", "options": options, "modelkit": __version__}
    ]  # fmt: skip
    if not history.best:
        warnings.warn(
            AccuracyWarning(
                "No epoch came nearer to the original on the samples held out: the weights are as they were. "
                "Try a lower --lr, more --epochs or more data."
            ),
            stacklevel=2,
        )
    return Recovery(result, history, time.perf_counter() - started, data.n, lesson.distance.kinds)


class Lesson:
    """The loss of the student on samples of the data."""

    def __init__(
        self, module: Trainable, teacher: Teacher, data: Dataset, distance: Distance, features: list[str], wanted: Distillation
    ) -> None:
        self.module, self.teacher, self.data, self.distance = module, teacher, data, distance
        self._features, self._wanted = features, wanted

    def __call__(self, rows: Array, training: bool) -> torch.Tensor:
        import torch

        from .distill.losses import cross_entropy, relative_error

        feeds, labels = self.data.take(rows)
        answers = self.teacher(rows, feeds)
        device = self._wanted.device
        found = self.module({name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in feeds.items()})
        loss = self.distance(found, answers)
        if not training:
            return loss
        if self._wanted.labels and labels is not None:
            own = cross_entropy(found[next(iter(self.distance.kinds))], torch.from_numpy(labels).to(device))
            loss = (1 - self._wanted.labels) * loss + self._wanted.labels * own
        if self._features:
            errors = [relative_error(found[name].float(), answers[name].float()) for name in self._features]
            loss = loss + self._wanted.features * torch.stack(errors).mean()
        return loss


def _lesson(model: TorchModel, teacher: Model, data: Dataset, wanted: Distillation) -> Lesson:
    from .distill.losses import Distance, losses_of
    from .distill.teacher import Teacher, matched_features, matched_outputs

    graph = model.graph
    kind = None if data.labels is None else data.labels.dtype.kind.replace("u", "i")
    losses = losses_of(graph, kind)
    if wanted.loss != "auto":
        losses = dict.fromkeys(losses, wanted.loss)  # type: ignore[arg-type]
    if not losses:
        raise ModelkitError(
            f"{model.path} gives no floating-point output to learn from.", "Give the model before its last argmax."
        )
    if wanted.labels and (kind != "i"):
        raise ModelkitError(
            "Weighing in labels needs data with class labels.", "Add an array of labels named y, or leave it out."
        )
    outputs = matched_outputs(graph, teacher.graph)
    features = matched_features(graph, teacher.graph) if wanted.features else {}
    edges = {**{name: outputs[name] for name in losses}, **features}
    asked = Teacher(teacher, graph, edges, data.n, wanted.device)
    ends = [name for name in losses if (node := graph.producer(name)) is not None and node.kind == "softmax"]
    sparse = any("pattern" in dict(entry.get("options", {})) for entry in model.provenance.history)
    module = model.trainable(sparse, list(features), wanted.device)
    return Lesson(module, asked, data, Distance(losses, wanted.temperature, ends), list(features), wanted)


def _digest(path: Path) -> str:
    return sha256([path]) if path.is_file() else ""


def deliver(recovery: Recovery, data: Dataset, out: Path) -> Model:
    """Write the recovered model to `out`, in the format that it names, read back and checked."""
    model = into_family(recovery.model, family_of(out))
    sample = next(feeds_of(model, data, calibration_batch(model.graph)))
    return publish(model, out, sample, outputs_of(model, sample))
