"""Which runtime to compare models in, and how to give each model to it as a file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from modelkit.analysis.products import is_one_product
from modelkit.core.errors import ModelkitError
from modelkit.core.model import Model

from .registry import find_runtime
from .runtime import Runtime

NATIVE_FORMAT = {"onnx": "onnx", "torch": "pt2"}


def choose_runtime(models: Sequence[Model], device: str = "cpu") -> tuple[str, str | None]:
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
    if any(simulated(model) for model in models):
        if device == "cuda" and not _has_cuda("onnxruntime"):
            return "torch", (
                "PyTorch only simulates grouped convolutions with quantised activations, more slowly than the original's: "
                "install onnxruntime-gpu to measure them in onnxruntime."
            )
        return "onnxruntime", (
            "A model has grouped convolutions with quantised activations, which PyTorch would only simulate: measuring in "
            "onnxruntime, with the models converted to ONNX. Use --runtime torch for PyTorch."
        )
    return "torch", None


def simulated(model: Model) -> bool:
    """Whether PyTorch computes in floating point what the model has in integers, as it does convolutions in groups."""
    static = any(_options(entry).get("activations") == "static" for entry in model.provenance.history)
    static = static and model.provenance.target is not None  # else only weights are integers, as those were not faster
    layers = (layer for layer in model.graph.layers() if layer.kind == "conv" and not is_one_product(layer))
    weights = (layer.parameters.get("weight") for layer in layers)
    return static and any(weight is not None and weight.form.startswith("int8") for weight in weights)


def _options(entry: dict[str, object]) -> dict[str, object]:
    options = entry.get("options")
    return options if isinstance(options, dict) else {}


def _has_cuda(runtime: str) -> bool:
    try:
        find_runtime(runtime).check_device("cuda")
    except ModelkitError:
        return False
    return True


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
