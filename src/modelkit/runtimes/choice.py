"""Which runtime to compare models in, and how to give each model to it as a file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from modelkit.core.model import Model

from .runtime import Runtime

NATIVE_FORMAT = {"onnx": "onnx", "torch": "pt2"}


def choose_runtime(models: Sequence[Model]) -> tuple[str, str | None]:
    """The name of one runtime for all of these models, and a note for the user when the choice is not the obvious one.

    One for all, because a ratio between figures of two runtimes tells of the runtimes, not of the models.
    """
    families = {model.family for model in models}
    if families == {"onnx"}:
        return "onnxruntime", None
    if len(families) > 1:
        return "onnxruntime", (
            "The models are of several families: all are measured in onnxruntime, the torch ones converted to ONNX. "
            "Use --runtime torch to measure all of them in PyTorch."
        )
    if any(quantizes_activations(model) for model in models):
        return "onnxruntime", (
            "A model has quantised activations, which PyTorch would only simulate: measuring in onnxruntime, "
            "with the models converted to ONNX. Use --runtime torch for PyTorch."
        )
    return "torch", None


def quantizes_activations(model: Model) -> bool:
    """Whether a pass put activations on grids, according to the history in the file."""
    return any(_mentions_activations(entry) for entry in model.provenance.history)


def _mentions_activations(entry: dict[str, object]) -> bool:
    options = entry.get("options")
    asked = str(options.get("activations", "")) if isinstance(options, dict) else ""
    return asked in ("static", "dynamic")


def runnable_file(model: Model, runtime: Runtime, folder: Path) -> Path:
    """The model as a file that the runtime reads: its own file where possible, else one written in `folder`."""
    if model.format == NATIVE_FORMAT[runtime.family]:
        return model.path
    if model.family != runtime.family:
        from modelkit.models.crossing import to_onnx, to_torch

        model = to_onnx(model) if runtime.family == "onnx" else to_torch(model)
    own = Path(tempfile.mkdtemp(dir=folder))  # a folder each: external data has names of its own
    path = own / f"{model.path.stem}.{NATIVE_FORMAT[runtime.family]}"
    model.save(path)
    return path
